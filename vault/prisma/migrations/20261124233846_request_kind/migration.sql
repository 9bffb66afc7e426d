-- AlterTable
ALTER TABLE "request" ADD COLUMN     "kind" TEXT NOT NULL DEFAULT 'batch';
