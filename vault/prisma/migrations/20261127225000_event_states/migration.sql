-- AlterTable
ALTER TABLE "approval" ADD COLUMN     "late" BOOLEAN NOT NULL DEFAULT false;

-- AlterTable
ALTER TABLE "rejection" ADD COLUMN     "late" BOOLEAN NOT NULL DEFAULT false;

-- AlterTable
ALTER TABLE "event" ADD COLUMN     "end_reason" TEXT,
ADD COLUMN     "since" BIGINT;
UPDATE "event" SET "since" = "created";
ALTER TABLE "event" ALTER COLUMN "since" SET NOT NULL;

-- Requests say from now on whether what they asked for was published or rejected.
UPDATE "request" SET "state" = 'published' FROM "event" WHERE "event"."id" = "event_id" AND "event"."state" = 'published';
UPDATE "request" SET "state" = 'rejected' FROM "event" WHERE "event"."id" = "event_id" AND "event"."state" = 'rejected';

-- A signing event only goes forward, and what was frozen stays as it is, whatever the code does: of two who end it at
-- one moment the second is refused here.
CREATE FUNCTION keep_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW."state" <> OLD."state" AND NOT (
    (OLD."state" = 'open' AND NEW."state" IN ('ready', 'expired', 'superseded', 'rejected'))
    OR (OLD."state" = 'ready' AND NEW."state" IN ('published', 'superseded'))
  ) THEN
    RAISE EXCEPTION 'an event that is % does not become %', OLD."state", NEW."state";
  END IF;
  IF OLD."metadata" IS NOT NULL AND NEW."metadata" IS DISTINCT FROM OLD."metadata" THEN
    RAISE EXCEPTION 'the file of an event is frozen';
  END IF;
  IF (NEW."id", NEW."role", NEW."version", NEW."signed", NEW."quorums"::text, NEW."created", NEW."expires")
    IS DISTINCT FROM
    (OLD."id", OLD."role", OLD."version", OLD."signed", OLD."quorums"::text, OLD."created", OLD."expires") THEN
    RAISE EXCEPTION 'a proposal is frozen';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER keep_event BEFORE UPDATE ON "event" FOR EACH ROW EXECUTE FUNCTION keep_event();

-- Versions, index ranges and ids are burned by the rows that name them: none is ever removed.
CREATE TRIGGER burned BEFORE DELETE OR TRUNCATE ON "event" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER burned BEFORE DELETE OR TRUNCATE ON "batch" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER burned BEFORE DELETE OR TRUNCATE ON "token" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
