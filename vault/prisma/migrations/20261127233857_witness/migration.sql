-- CreateTable
CREATE TABLE "witness" (
    "url" TEXT NOT NULL,
    "size" BIGINT NOT NULL,

    CONSTRAINT "witness_pkey" PRIMARY KEY ("url")
);

-- CreateTable
CREATE TABLE "unproven" (
    "id" BYTEA NOT NULL,

    CONSTRAINT "unproven_pkey" PRIMARY KEY ("id")
);
