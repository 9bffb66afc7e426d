/** The process that makes tokens and keys for setup.ts: one request on standard input, one answer on standard output. */
import { text } from "node:stream/consumers";
import { CodedError, formatBase64 } from "@viafabric/schemas";
import { holdCeremony } from "./ceremony.ts";
import { openKeys } from "./index.ts";
import { ceremonyOf, keyRequestOf, publicKeyText, type SetupAnswer, type SetupRequest } from "./setup.ts";
import { confFileIn, makeSoftHsmToken } from "./softhsm.ts";

async function perform(request: SetupRequest): Promise<unknown> {
  // The module reads its environment when it is initialised, so this comes first.
  if ("init" in request) {
    process.env.SOFTHSM2_CONF = confFileIn(request.init.folder);
    return makeSoftHsmToken(request.init);
  }
  const { token } = request;
  if ("confFile" in token) process.env.SOFTHSM2_CONF = token.confFile;
  const hsm = await openKeys(token);
  try {
    if ("ceremony" in request) return formatBase64(await holdCeremony(hsm, ceremonyOf(request.ceremony)));
    const made: string[] = [];
    for (const { id, label, algorithm } of request.keys.map(keyRequestOf))
      made.push(publicKeyText(await hsm.generateKey(id, label, algorithm)));
    return made;
  } finally {
    await hsm.close();
  }
}

const request = JSON.parse(await text(process.stdin)) as SetupRequest;
const answer: SetupAnswer = await perform(request).then(
  (result) => ({ result }),
  (error: unknown) => ({
    code: error instanceof CodedError ? error.code : "",
    message: error instanceof Error ? error.message : String(error),
  }),
);
process.stdout.write(JSON.stringify(answer));
