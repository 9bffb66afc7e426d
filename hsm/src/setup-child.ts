/** The process that makes tokens and keys for setup.ts: one request on standard input, one answer on standard output. */
import { text } from "node:stream/consumers";
import { CodedError } from "@viafabric/schemas";
import { openKeys } from "./index.ts";
import { keyRequestOf, publicKeyText, type SetupAnswer, type SetupRequest } from "./setup.ts";
import { confFileIn, makeSoftHsmToken } from "./softhsm.ts";

async function perform(request: SetupRequest): Promise<unknown> {
  // The module reads its environment when it is initialised, so this comes first.
  if ("init" in request) {
    process.env.SOFTHSM2_CONF = confFileIn(request.init.folder);
    return makeSoftHsmToken(request.init);
  }
  const { token, keys } = request;
  if ("confFile" in token) process.env.SOFTHSM2_CONF = token.confFile;
  const hsm = await openKeys(token);
  try {
    const made: string[] = [];
    for (const { id, label, algorithm } of keys.map(keyRequestOf))
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
