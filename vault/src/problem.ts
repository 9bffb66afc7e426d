/**
 * Errors over HTTP: RFC 9457 problem details, with the same codes as everywhere else in the house. The one table from
 * code to status.
 */
import { CodedError, type ErrorCode, FormatError, OperationError, VerificationError } from "@viafabric/schemas";

export const PROBLEM_TYPE = "application/problem+json";

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode | "ERR_INTERNAL";
}

/** Where a code's class does not say it all. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  ERR_UNAUTHORIZED: 401,
  ERR_REQUEST: 401,
  ERR_REQUEST_STALE: 401,
  ERR_REPLAY: 401,
  ERR_NOT_FOUND: 404,
  ERR_CLOSED: 409,
  ERR_PROPOSAL_CLOSED: 409,
  ERR_LENGTH: 413,
  ERR_BUSY: 429,
  ERR_DISK_FULL: 507,
};

/** When it is worth asking again, where that is known; the framework says it for ERR_BUSY. */
export const RETRY_AFTER_SECONDS: Partial<Record<Problem["code"], number>> = { ERR_BACKLOG: 60 };

export function statusOf(error: CodedError): number {
  const listed = STATUS[error.code];
  if (listed !== undefined) return listed;
  if (error instanceof FormatError) return 400;
  if (error instanceof VerificationError) return 403;
  return 503;
}

/** What the framework itself refuses, in our words. */
const FRAMEWORK = new Map<number, (message: string) => CodedError>([
  [400, (message) => new FormatError("ERR_REQUEST_BODY", message)],
  [404, (message) => new OperationError("ERR_NOT_FOUND", message)],
  [413, (message) => new FormatError("ERR_LENGTH", message)],
  [415, (message) => new FormatError("ERR_REQUEST_BODY", message)],
  [429, (message) => new OperationError("ERR_BUSY", message)],
]);

/** @param error whatever a handler or the framework threw */
export function problemOf(error: unknown): Problem {
  const coded = error instanceof CodedError ? error : fromFramework(error);
  // A bug of ours: the log has the stack, the outside learns nothing.
  if (!coded) return problem(500, "ERR_INTERNAL", "Internal error", "something broke; the vault's log says what");
  const title = `${coded.name} ${coded.code}`;
  return problem(statusOf(coded as CodedError), (coded as CodedError).code, title, coded.message);
}

function fromFramework(error: unknown): CodedError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { statusCode } = error as { statusCode?: number };
  return statusCode === undefined ? undefined : FRAMEWORK.get(statusCode)?.(error.message);
}

function problem(status: number, code: Problem["code"], title: string, detail: string): Problem {
  return { type: `urn:viafabric:error:${code}`, title, status, detail, code };
}
