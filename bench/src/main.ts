/**
 * `npm run bench [-- NAME…]`: runs the benches named, or all, and prints one JSON object a line.
 *
 * Exit code 0 when every judged figure reached its goal, 1 when one did not, 2 for an unknown name.
 */
import { auditAuthority } from "./audit-authority.ts";
import type { Bench } from "./figure.ts";
import { hsmLatency, hsmSign } from "./hsm.ts";
import { issue } from "./issue.ts";
import { logAppend, logAudit, logLatency } from "./log.ts";
import { revocationDay, revocationSize, revocationSpeed } from "./revocation.ts";
import { trustRefresh } from "./trust-refresh.ts";
import { verify } from "./verify.ts";

const BENCHES: Readonly<Record<string, Bench>> = {
  "log-append": logAppend,
  "log-latency": logLatency,
  "log-audit": logAudit,
  "audit-authority": auditAuthority,
  "revocation-size": revocationSize,
  "revocation-speed": revocationSpeed,
  "revocation-day": revocationDay,
  "trust-refresh": trustRefresh,
  verify,
  "hsm-sign": hsmSign,
  "hsm-latency": hsmLatency,
  issue,
};

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !Object.hasOwn(BENCHES, name));
  if (unknown.length > 0) {
    process.stderr.write(`No bench ${unknown.join(", ")}. There are: ${Object.keys(BENCHES).join(", ")}\n`);
    return 2;
  }
  let missed = false;
  for (const name of names.length > 0 ? names : Object.keys(BENCHES)) {
    for await (const figure of BENCHES[name]!()) {
      process.stdout.write(`${JSON.stringify(figure)}\n`);
      missed ||= figure.ok === false;
    }
  }
  return missed ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
