/**
 * Several copies of the published files, none of them trusted: web servers, folders, sticks.
 *
 * One copy at a time does the whole work, because a mixture of two moments is what verification refuses. A mirror that
 * is down, lies or has grown old costs time; the next one is asked, and what was verified already stays. Only when
 * none is left does the work fail, and then it says which kind of failure it was: nobody could be reached, or all that
 * answered show an expired state (a freeze), or somebody gave what may not be accepted.
 */
import { CodedError, OperationError, VerificationError } from "@viafabric/schemas";
import { type FetchFile, folderFetch, httpFetch } from "./fetch.ts";

export interface Mirror {
  /** The address or folder, as it was given. */
  readonly name: string;
  readonly fetch: FetchFile;
}

export interface MirrorFailure {
  readonly mirror: string;
  readonly error: CodedError<string>;
}

export interface MirrorAnswer<T> {
  readonly value: T;
  readonly mirror: string;
  /** Of those asked before, and of those asked in vain for more. */
  readonly failures: readonly MirrorFailure[];
}

/** More addresses than a person keeps up to date. */
export const MIRRORS_MAX = 16;
/** Where there is another mirror, a failing one is not waited for longer than for a lost packet. */
const ATTEMPTS_AMONG_SEVERAL = 2;

/** @param sources http(s) addresses and folders, the preferred one first. @throws OperationError ERR_USAGE */
export function openMirrors(sources: readonly string[]): readonly Mirror[] {
  if (sources.length === 0 || sources.length > MIRRORS_MAX || new Set(sources).size < sources.length)
    throw new OperationError("ERR_USAGE", `name 1 to ${MIRRORS_MAX} different sources, not ${sources.length}`);
  const options = sources.length > 1 ? { attemptsMax: ATTEMPTS_AMONG_SEVERAL } : {};
  return sources.map((name) => ({
    name,
    fetch: /^https?:\/\//.test(name) ? httpFetch(name, options) : folderFetch(name),
  }));
}

/**
 * Asks one mirror after the other until one lets `work` succeed with a value that `isCurrent`. What is older but true
 * is taken when no mirror has more.
 * @throws what the mirrors failed with: CodedError of a refusal, VerificationError ERR_FREEZE, OperationError ERR_FETCH
 */
export async function tryMirrors<T>(
  mirrors: readonly Mirror[],
  work: (fetch: FetchFile) => Promise<T>,
  isCurrent: (value: T) => boolean = () => true,
): Promise<MirrorAnswer<T>> {
  const failures: MirrorFailure[] = [];
  let best: { readonly value: T; readonly mirror: string } | undefined;
  for (const { name, fetch } of mirrors) {
    try {
      best = { value: await work(fetch), mirror: name };
      if (isCurrent(best.value)) break;
    } catch (error) {
      if (!(error instanceof CodedError) || OURS.includes(error.code)) throw error;
      failures.push({ mirror: name, error });
    }
  }
  if (best) return { ...best, failures };
  throw together(failures);
}

/** Another mirror changes nothing about these. */
const OURS: readonly string[] = ["ERR_USAGE", "ERR_HOME", "ERR_LOCKED", "ERR_CLOCK"];

function together(failures: readonly MirrorFailure[]): CodedError<string> {
  const [only] = failures;
  const refusal = failures.find(({ error }) => !(error instanceof OperationError) && error.code !== EXPIRED);
  const expired = failures.find(({ error }) => error.code === EXPIRED);
  const all = failures.map(({ mirror, error }) => `${mirror}: ${error.message}`).join("; ");
  const cause = (refusal ?? expired ?? only)?.error;
  if (!refusal && expired)
    return new VerificationError("ERR_FREEZE", `no mirror shows a living state: ${all}`, { cause });
  if (failures.length === 1) return only!.error;
  if (refusal) return new CodedError(refusal.error.code, `no mirror could be followed: ${all}`, { cause });
  return new OperationError("ERR_FETCH", `no mirror could be reached: ${all}`, { cause, retryable: true });
}

const EXPIRED = "ERR_METADATA_EXPIRED";
