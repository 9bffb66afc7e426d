-- DropIndex
DROP INDEX "event_role_version_key";

-- AlterTable
ALTER TABLE "event" ADD COLUMN     "attempt" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "rotation_id" BYTEA;

-- CreateIndex
CREATE INDEX "event_rotation_id_idx" ON "event"("rotation_id");

-- CreateIndex
CREATE UNIQUE INDEX "event_role_version_attempt_key" ON "event"("role", "version", "attempt");

-- AddForeignKey
ALTER TABLE "event" ADD CONSTRAINT "event_rotation_id_fkey" FOREIGN KEY ("rotation_id") REFERENCES "event"("id") ON DELETE SET NULL ON UPDATE CASCADE;
