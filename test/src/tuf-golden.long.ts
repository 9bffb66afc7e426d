/** The golden TUF repositories, judged by python-tuf and go-tuf. */
import { goTuf, pythonTuf, skipReason, visitWithPeer } from "./tuf-clients/peers.ts";
import { testClient } from "./tuf-clients/play.ts";

for (const [name, find] of [
  ["python-tuf", pythonTuf],
  ["go-tuf", goTuf],
] as const) {
  const peer = await find();
  const skip = skipReason(name, peer);
  if (skip) console.log(skip);
  testClient(name, (visit) => visitWithPeer(peer, visit), skip);
}
