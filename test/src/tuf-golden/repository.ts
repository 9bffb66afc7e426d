/** The shape of a golden repository: a story in steps, with the verdict that each client must give at each. */
import { type Holders, type Publication, THRESHOLD } from "./authority.ts";

/** In the order of the table in docs/tuf-clients.md. */
export const CLIENTS = ["viafabric", "tuf-js", "python-tuf", "go-tuf"] as const;
export type Client = (typeof CLIENTS)[number];

export interface Expectation {
  readonly verdict: "accept" | "refuse";
  /** Our code, or a part of the other client's message: a refusal for another reason would prove nothing. */
  readonly because?: string;
}

export type Verdicts = Readonly<Record<Client, Expectation>>;

export interface Step {
  readonly what: string;
  /** What befalls the client before this step: a power cut leaves every file of its store half as long. */
  readonly before?: "power cut";
  readonly verdicts: Verdicts;
  readonly publication: Publication;
}

export interface Repository {
  readonly name: string;
  readonly what: string;
  /** Why clients differ, where they do. */
  readonly why?: string;
  readonly steps: readonly Step[];
  /** Whose root 1 the clients pin, where it is not the usual one. */
  readonly founders?: Holders;
}

/** Why each client that refuses does so; those not named accept. */
export type Reasons = { readonly [client in Client]?: string | undefined };

export function verdicts(reasons: Reasons): Verdicts {
  const expectation = (because: string | undefined): Expectation =>
    because === undefined ? { verdict: "accept" } : { verdict: "refuse", because };
  return Object.fromEntries(CLIENTS.map((client) => [client, expectation(reasons[client])])) as Verdicts;
}

export const everybodyAccepts = verdicts({});

/** How each client says that a role has too few good signatures. */
export function tooFew(role: string, count: number, threshold: number = THRESHOLD): Readonly<Record<Client, string>> {
  const counted = `${role} was signed by ${count}/${threshold} keys`;
  return {
    viafabric: "ERR_THRESHOLD",
    "tuf-js": counted,
    "python-tuf": counted,
    "go-tuf": `Verifying ${role} failed, not enough signatures, got ${count}, want ${threshold}`,
  };
}
