-- CreateTable
CREATE TABLE "notification" (
    "id" TEXT NOT NULL,
    "channel" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "at" BIGINT NOT NULL,
    "state" TEXT NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "due" BIGINT NOT NULL,
    "problem" TEXT,

    CONSTRAINT "notification_pkey" PRIMARY KEY ("id","channel")
);

-- CreateIndex
CREATE INDEX "notification_state_due_idx" ON "notification"("state", "due");
