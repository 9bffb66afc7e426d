-- CreateTable
CREATE TABLE "authority" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "authority" BYTEA NOT NULL,
    "created" BIGINT NOT NULL,

    CONSTRAINT "authority_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "request" (
    "id" BYTEA NOT NULL,
    "kid" BYTEA NOT NULL,
    "body" BYTEA NOT NULL,
    "proof" TEXT NOT NULL,
    "received" BIGINT NOT NULL,
    "state" TEXT NOT NULL,
    "refusal" TEXT,
    "event_id" BYTEA,

    CONSTRAINT "request_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "event" (
    "id" BYTEA NOT NULL,
    "role" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "signed" BYTEA NOT NULL,
    "state" TEXT NOT NULL,
    "quorums" JSONB NOT NULL,
    "created" BIGINT NOT NULL,
    "expires" BIGINT NOT NULL,
    "metadata" BYTEA,

    CONSTRAINT "event_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "attachment" (
    "event_id" BYTEA NOT NULL,
    "name" TEXT NOT NULL,
    "bytes" BYTEA NOT NULL,

    CONSTRAINT "attachment_pkey" PRIMARY KEY ("event_id","name")
);

-- CreateTable
CREATE TABLE "approval" (
    "event_id" BYTEA NOT NULL,
    "kid" BYTEA NOT NULL,
    "key_id" TEXT NOT NULL,
    "signature" BYTEA NOT NULL,
    "received" BIGINT NOT NULL,

    CONSTRAINT "approval_pkey" PRIMARY KEY ("event_id","kid")
);

-- CreateTable
CREATE TABLE "rejection" (
    "event_id" BYTEA NOT NULL,
    "kid" BYTEA NOT NULL,
    "key_id" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "signature" BYTEA NOT NULL,
    "received" BIGINT NOT NULL,

    CONSTRAINT "rejection_pkey" PRIMARY KEY ("event_id","kid")
);

-- CreateTable
CREATE TABLE "batch" (
    "manifest_hash" BYTEA NOT NULL,
    "event_id" BYTEA NOT NULL,
    "seq" BIGINT NOT NULL,
    "first" BIGINT NOT NULL,
    "count" INTEGER NOT NULL,
    "manifest" BYTEA NOT NULL,
    "uid_key" BYTEA NOT NULL,
    "signatures" BYTEA,
    "leaf_index" BIGINT,

    CONSTRAINT "batch_pkey" PRIMARY KEY ("manifest_hash")
);

-- CreateTable
CREATE TABLE "token" (
    "index" BIGINT NOT NULL,
    "manifest_hash" BYTEA NOT NULL,
    "rct_id" BYTEA NOT NULL,
    "subject" TEXT NOT NULL,
    "confirmation" BYTEA,
    "claim_secret" BYTEA,

    CONSTRAINT "token_pkey" PRIMARY KEY ("index")
);

-- CreateTable
CREATE TABLE "log_head" (
    "origin" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "root" BYTEA NOT NULL,
    "note" BYTEA NOT NULL,

    CONSTRAINT "log_head_pkey" PRIMARY KEY ("origin")
);

-- CreateTable
CREATE TABLE "status_event" (
    "id" BYTEA NOT NULL,
    "body" BYTEA NOT NULL,
    "action" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "created" BIGINT NOT NULL,
    "not_after" BIGINT NOT NULL,
    "leaf_index" BIGINT,

    CONSTRAINT "status_event_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "status_signature" (
    "event_id" BYTEA NOT NULL,
    "kid" BYTEA NOT NULL,
    "signature" BYTEA NOT NULL,
    "received" BIGINT NOT NULL,

    CONSTRAINT "status_signature_pkey" PRIMARY KEY ("event_id","kid")
);

-- CreateTable
CREATE TABLE "kit" (
    "id" BYTEA NOT NULL,
    "manifest_hash" BYTEA NOT NULL,
    "station" BYTEA NOT NULL,
    "first" BIGINT NOT NULL,
    "count" INTEGER NOT NULL,
    "created" BIGINT NOT NULL,

    CONSTRAINT "kit_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "receipt" (
    "kit_id" BYTEA NOT NULL,
    "seq" INTEGER NOT NULL,
    "index" BIGINT NOT NULL,
    "result" TEXT NOT NULL,
    "bytes" BYTEA NOT NULL,
    "received" BIGINT NOT NULL,

    CONSTRAINT "receipt_pkey" PRIMARY KEY ("kit_id","seq")
);

-- CreateTable
CREATE TABLE "nonce" (
    "kid" BYTEA NOT NULL,
    "nonce" BYTEA NOT NULL,
    "expires" BIGINT NOT NULL,

    CONSTRAINT "nonce_pkey" PRIMARY KEY ("kid","nonce")
);

-- CreateTable
CREATE TABLE "intent" (
    "name" TEXT NOT NULL,
    "index" BIGINT NOT NULL,

    CONSTRAINT "intent_pkey" PRIMARY KEY ("name")
);

-- CreateTable
CREATE TABLE "publication" (
    "id" SERIAL NOT NULL,
    "created" BIGINT NOT NULL,
    "done" BOOLEAN NOT NULL,
    "what" JSONB NOT NULL,

    CONSTRAINT "publication_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "publication_file" (
    "publication_id" INTEGER NOT NULL,
    "place" INTEGER NOT NULL,
    "kind" TEXT NOT NULL,
    "path" TEXT NOT NULL,
    "bytes" BYTEA NOT NULL,

    CONSTRAINT "publication_file_pkey" PRIMARY KEY ("publication_id","place")
);

-- CreateIndex
CREATE INDEX "request_state_received_idx" ON "request"("state", "received");

-- CreateIndex
CREATE INDEX "event_state_idx" ON "event"("state");

-- CreateIndex
CREATE UNIQUE INDEX "event_role_version_key" ON "event"("role", "version");

-- CreateIndex
CREATE INDEX "batch_seq_idx" ON "batch"("seq");

-- CreateIndex
CREATE UNIQUE INDEX "token_rct_id_key" ON "token"("rct_id");

-- CreateIndex
CREATE INDEX "token_manifest_hash_index_idx" ON "token"("manifest_hash", "index");

-- CreateIndex
CREATE INDEX "status_event_state_created_idx" ON "status_event"("state", "created");

-- CreateIndex
CREATE UNIQUE INDEX "kit_manifest_hash_first_key" ON "kit"("manifest_hash", "first");

-- CreateIndex
CREATE INDEX "receipt_index_idx" ON "receipt"("index");

-- CreateIndex
CREATE INDEX "nonce_expires_idx" ON "nonce"("expires");

-- CreateIndex
CREATE INDEX "publication_done_idx" ON "publication"("done");

-- AddForeignKey
ALTER TABLE "request" ADD CONSTRAINT "request_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "event"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "attachment" ADD CONSTRAINT "attachment_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "approval" ADD CONSTRAINT "approval_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "rejection" ADD CONSTRAINT "rejection_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "batch" ADD CONSTRAINT "batch_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "token" ADD CONSTRAINT "token_manifest_hash_fkey" FOREIGN KEY ("manifest_hash") REFERENCES "batch"("manifest_hash") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "status_signature" ADD CONSTRAINT "status_signature_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "status_event"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "kit" ADD CONSTRAINT "kit_manifest_hash_fkey" FOREIGN KEY ("manifest_hash") REFERENCES "batch"("manifest_hash") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "receipt" ADD CONSTRAINT "receipt_kit_id_fkey" FOREIGN KEY ("kit_id") REFERENCES "kit"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "publication_file" ADD CONSTRAINT "publication_file_publication_id_fkey" FOREIGN KEY ("publication_id") REFERENCES "publication"("id") ON DELETE CASCADE ON UPDATE CASCADE;
