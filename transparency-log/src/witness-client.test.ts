import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import {
  buildConsistencyProof,
  formatHex,
  formatSignatureLine,
  hashLeaf,
  noteVerifier,
  OperationError,
  parseNote,
  rootOf,
  type Signer,
  sha256,
  signNote,
  subtreeOf,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import {
  decimals,
  logSigner,
  logVerifier,
  ORIGIN,
  signedCheckpoint,
  signerOf,
  WITNESS,
  WITNESS_TIME,
  witnessSigner,
  witnessVerifier,
} from "./fixtures.test.ts";
import { type LogPolicy, type PolicyWitness, verifyCheckpoint } from "./policy.ts";
import {
  gatherCosignatures,
  openWitness,
  type Submission,
  WITNESS_ANSWER_BYTES_MAX,
  type WitnessEvidence,
  type WitnessOptions,
  witnessesByAddress,
} from "./witness-client.ts";

const leaves = decimals(0, 70_000).map(hashLeaf);

async function submissionOf(size: number, witnessed = false): Promise<Submission> {
  return {
    note: await signedCheckpoint({ size, root: rootOf(leaves.slice(0, size)) }, { witnessed }),
    prove: (oldSize) => buildConsistencyProof(oldSize, size, subtreeOf(leaves)),
  };
}

type Handler = (request: string, response: ServerResponse, count: number) => void | Promise<void>;

/** A witness that answers as each test says, and remembers what it was asked. */
async function serve(handler: Handler) {
  const requests: string[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    void (async () => {
      assert.deepEqual([request.method, request.url], ["POST", "/w/add-checkpoint"]);
      requests.push(await text(request));
      await handler(requests.at(-1)!, response, requests.length);
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/w`;
  const policyWitness: PolicyWitness = { name: "w1", verifier: witnessVerifier, url };
  const open = (options: WitnessOptions = {}) => openWitness(logVerifier, [policyWitness], options);
  return { requests, url, open };
}

function answer(response: ServerResponse, status: number, body: string, type = "text/plain"): void {
  response.writeHead(status, { "Content-Type": type }).end(body);
}

const conflict = (response: ServerResponse, size: string) => answer(response, 409, size, "text/x.tlog.size");

async function cosignature(request: string, signer: Signer = witnessSigner): Promise<string> {
  const note = request.slice(request.indexOf("\n\n") + 2);
  return formatSignatureLine(await signNote(parseNote(utf8(note)).text, WITNESS, signer, WITNESS_TIME));
}

/** As a witness should: it starts at `size`, and takes any proof. */
function honest(size = 0): Handler {
  let held = size;
  return async (request, response) => {
    if (!request.startsWith(`old ${held}\n`)) return conflict(response, `${held}\n`);
    held = Number(request.slice(request.indexOf("\n\n") + 2).split("\n")[1]);
    answer(response, 200, await cosignature(request));
  };
}

const policy = (quorum = 1, names = ["w1"]): LogPolicy => ({
  logs: [{ verifier: logVerifier }],
  witnesses: [{ name: "w1", verifier: witnessVerifier }],
  groups: [{ name: "some", threshold: quorum, members: names }],
  quorum: "some",
});

function isSplit(error: unknown): boolean {
  return error instanceof VerificationError && error.code === "ERR_WITNESS_SPLIT";
}

function isFailure(retryable: boolean) {
  return (error: unknown) =>
    error instanceof OperationError && error.code === "ERR_WITNESS" && error.retryable === retryable;
}

test("a first checkpoint goes without a proof, and its cosignature completes the note", async () => {
  const { requests, open } = await serve(honest());
  const witness = open();
  const submission = await submissionOf(256);
  const { note, checkpoint } = await gatherCosignatures(policy(), [witness], submission);
  assert.deepEqual(verifyCheckpoint(policy(), note), checkpoint);
  assert.deepEqual(checkpoint?.witnesses, [{ name: "w1", time: WITNESS_TIME }]);
  assert.deepEqual(requests, [`old 0\n\n${new TextDecoder().decode(submission.note)}`]);
  assert.equal(witness.size, 256);
});

test("the size is remembered, and the request is the published one", async () => {
  const { requests, open } = await serve(honest());
  const witness = open();
  await witness.cosign(await submissionOf(256));
  await witness.cosign(await submissionOf(70_000));
  assert.equal(requests.length, 2);
  assert.equal(
    formatHex(sha256(utf8(requests[1]!))),
    "205b06cccb24eb421d97f33b40b5d854c10980807949005e6d54e1d36feb9278",
  );
  assert.equal(witness.size, 70_000);
});

test("a size kept from an earlier run saves the question", async () => {
  const { requests, open } = await serve(honest(3));
  await open({ size: 3 }).cosign(await submissionOf(256));
  assert.equal(requests.length, 1);
});

test("a 409 with a size is answered with a proof from there", async () => {
  const { requests, open } = await serve(honest(255));
  const witness = open();
  await witness.cosign(await submissionOf(257));
  assert.deepEqual(
    requests.map((request) => request.split("\n")[0]),
    ["old 0", "old 255"],
  );
  assert.equal(witness.size, 257);
});

test("cosignatures already collected are not sent along", async () => {
  const { requests, open } = await serve(honest());
  await open().cosign(await submissionOf(3, true));
  assert.equal(parseNote(utf8(requests[0]!.slice("old 0\n\n".length))).signatures.length, 1);
});

test("requests to one witness run one after the other", async () => {
  const { requests, open } = await serve(honest());
  const witness = open();
  await Promise.all([3, 256, 257].map(async (size) => witness.cosign(await submissionOf(size))));
  assert.deepEqual(
    requests.map((request) => request.split("\n")[0]),
    ["old 0", "old 3", "old 256"],
  );
});

const CONTRADICTIONS: readonly [string, Handler][] = [
  ["422", (_, response) => answer(response, 422, "bad proof\n")],
  ["409 without a size", (_, response) => answer(response, 409, "")],
  ["409 with a size in another type", (_, response) => answer(response, 409, "3\n", "text/plain")],
  ["409 with something else than a size", (_, response) => conflict(response, "0x3\n")],
  ["409 with two sizes", (_, response) => conflict(response, "3\n4\n")],
  ["409 with a size without its line end", (_, response) => conflict(response, "3")],
  ["409 with a larger size than ours", (_, response) => conflict(response, "257\n")],
];

for (const [name, handler] of CONTRADICTIONS) {
  test(`${name} is evidence of a split, and the client stops`, async () => {
    const { requests, url, open } = await serve(handler);
    const witness = open();
    const submission = await submissionOf(256);
    await assert.rejects(witness.cosign(submission), (error: Error) => {
      const evidence = error.cause as WitnessEvidence;
      assert.equal(evidence.url, `${url}/add-checkpoint`);
      assert.equal(evidence.request, requests[0]);
      return isSplit(error);
    });
    await assert.rejects(witness.cosign(submission), isSplit);
    assert.equal(requests.length, 1, "nothing is sent after that");
  });
}

test("a log that is shorter than what it once had cosigned is a split without asking", async () => {
  const { requests, open } = await serve(honest());
  await assert.rejects(open({ size: 257 }).cosign(await submissionOf(256)), isSplit);
  assert.equal(requests.length, 0);
});

test("a witness that cannot keep to a size is given up", async () => {
  const { requests, open } = await serve((_, response, count) => conflict(response, `${count}\n`));
  await assert.rejects(open().cosign(await submissionOf(256)), isFailure(true));
  assert.equal(requests.length, 4);
});

for (const status of [400, 403, 404, 302, 204]) {
  test(`${status} is a refusal and not tried again`, async () => {
    const { requests, open } = await serve((_, response) => {
      response.writeHead(status, { Location: "/elsewhere" }).end();
    });
    await assert.rejects(open().cosign(await submissionOf(256)), isFailure(false));
    assert.equal(requests.length, 1);
  });
}

test("a busy witness and a lost connection are tried again, a few times", async () => {
  const trouble: Handler[] = [
    (_, response) => answer(response, 429, ""),
    (_, response) => answer(response, 503, ""),
    (_, response) => void response.destroy(),
  ];
  const good = honest();
  const { requests, open } = await serve((request, response, count) =>
    (trouble[count - 1] ?? good)(request, response, count),
  );
  await open().cosign(await submissionOf(256));
  assert.equal(requests.length, 4);

  for (const always of trouble) {
    const bad = await serve(always);
    await assert.rejects(bad.open({ attemptsMax: 2 }).cosign(await submissionOf(256)), isFailure(true));
    assert.equal(bad.requests.length, 2);
  }
});

test("a witness that never answers is left after its time", async () => {
  const { open } = await serve(() => {});
  const witness = open({ secondsMax: 0.2, attemptsMax: 1 });
  await assert.rejects(witness.cosign(await submissionOf(256)), isFailure(true));
});

test("only a cosignature of the witness's own key counts", async () => {
  const stranger = signerOf(9);
  const wrong: Handler[] = [
    async (request, response) => answer(response, 200, await cosignature(request, stranger)),
    async (request, response) =>
      answer(response, 200, (await cosignature(request)).replace(WITNESS, "w.example/other")),
    async (request, response) => answer(response, 200, await cosignature(request.replace("\n256\n", "\n257\n"))),
    async (request, response) => answer(response, 200, `\n${await cosignature(request)}`),
    async (request, response) => answer(response, 200, (await cosignature(request)).trimEnd()),
    (_, response) => answer(response, 200, ""),
    (_, response) => answer(response, 200, "thanks\n"),
    (_, response) => void response.end(Buffer.from([0xff, 0xfe])),
    (_, response) => answer(response, 200, "— x y\n".repeat(WITNESS_ANSWER_BYTES_MAX)),
  ];
  for (const [i, handler] of wrong.entries()) {
    const { requests, open } = await serve(handler);
    const witness = open();
    await assert.rejects(witness.cosign(await submissionOf(256)), isFailure(false), `answer ${i}`);
    assert.deepEqual([requests.length, witness.size], [1, 0]);
  }
});

test("lines of keys we do not know are dropped", async () => {
  const { open } = await serve(async (request, response) => {
    const other = formatSignatureLine(await signNote("x\n", "other.example/w", signerOf(9), WITNESS_TIME));
    answer(response, 200, other + (await cosignature(request)) + other);
  });
  const { note } = await gatherCosignatures(policy(), [open()], await submissionOf(256));
  assert.deepEqual(
    parseNote(note).signatures.map(({ name }) => name),
    [ORIGIN, WITNESS],
  );
});

test("a quorum is enough; too few say why; one contradiction stops all", async () => {
  const good = await serve(honest());
  const down = await serve((_, response) => answer(response, 404, "unknown log\n"));
  const split = await serve((_, response) => answer(response, 422, ""));
  const submission = await submissionOf(256);
  const enough = await gatherCosignatures(policy(), [good.open(), down.open()], submission);
  assert.equal(enough.checkpoint?.witnesses.length, 1);
  const tooFew = await gatherCosignatures(policy(), [down.open()], submission);
  assert.equal(tooFew.checkpoint, undefined);
  assert.deepEqual(tooFew.note, submission.note, "the log's own word can still be read");
  assert.match(tooFew.failures[0]!.message, /answered 404.*unknown log/);
  await assert.rejects(gatherCosignatures(policy(), [good.open({ size: 256 }), split.open()], submission), isSplit);
});

test("no more lines are published than the policy asks for, and one changed byte of any is seen", async () => {
  const names = ["witness.example/a", "witness.example/b", "witness.example/c"];
  const servers = await Promise.all(
    names.map((name, i) =>
      serve(async (request, response) => {
        const text = parseNote(utf8(request.slice(request.indexOf("\n\n") + 2))).text;
        answer(response, 200, formatSignatureLine(await signNote(text, name, signerOf(10 + i), WITNESS_TIME)));
      }),
    ),
  );
  const three: LogPolicy = {
    logs: [{ verifier: logVerifier }],
    witnesses: names.map((name, i) => {
      return { name, verifier: noteVerifier(name, signerOf(10 + i).publicKey, 4), url: servers[i]!.url };
    }),
    groups: [{ name: "two", threshold: 2, members: names }],
    quorum: "two",
  };
  const witnesses = three.witnesses.map((witness) => openWitness(logVerifier, [witness]));
  const { note, checkpoint } = await gatherCosignatures(three, witnesses, await submissionOf(3));
  assert.equal(checkpoint?.witnesses.length, 2);
  for (let at = 0; at < note.length; at++)
    assert.throws(() => verifyCheckpoint(three, note.with(at, note[at]! ^ 1)), `byte ${at}`);
});

test("one address that signs with two keys is asked once", async () => {
  const second = signerOf(3);
  const { requests, url } = await serve(async (request, response) => {
    const text = parseNote(utf8(request.slice(request.indexOf("\n\n") + 2))).text;
    const other = formatSignatureLine(await signNote(text, "witness.example/w2", second, WITNESS_TIME));
    answer(response, 200, other + (await cosignature(request)));
  });
  const both: LogPolicy = {
    logs: [{ verifier: logVerifier }],
    witnesses: [
      { name: "w1", verifier: witnessVerifier, url },
      { name: "w2", verifier: noteVerifier("witness.example/w2", second.publicKey, 4), url },
      { name: "unreachable", verifier: noteVerifier("witness.example/w3", signerOf(4).publicKey, 4) },
    ],
    groups: [{ name: "some", threshold: 2, members: ["w1", "w2", "unreachable"] }],
    quorum: "some",
  };
  const witnesses = [...witnessesByAddress(both).values()].map((members) => openWitness(logVerifier, members));
  assert.deepEqual(
    witnesses.map(({ names }) => names),
    [["w1", "w2"]],
  );
  const { checkpoint } = await gatherCosignatures(both, witnesses, await submissionOf(256));
  assert.deepEqual(checkpoint?.witnesses.map(({ name }) => name).sort(), ["w1", "w2"]);
  assert.equal(requests.length, 1);
});

test("a start asks whether a witness has seen more, and sends no proof", async () => {
  for (const held of [0, 255, 256]) {
    const { requests, open } = await serve(honest(held));
    const witness = open();
    await witness.confirm((await submissionOf(256)).note);
    assert.equal(witness.size, held);
    assert.match(requests[0]!, /^old 256\n\n/);
    // What it told saves the question later.
    await witness.cosign(await submissionOf(257));
    assert.equal(requests.length, 2);
  }
  const { note } = await submissionOf(256);
  await assert.rejects((await serve(honest(257))).open().confirm(note), isSplit);
  await assert.rejects((await serve((_, response) => answer(response, 422, ""))).open().confirm(note), isSplit);
  await assert.rejects((await serve((_, response) => answer(response, 503, ""))).open().confirm(note), isFailure(true));
});

test("a note of another log, or of nobody, is never submitted", async () => {
  const { requests, open } = await serve(honest());
  const prove = async () => [];
  const head = { size: 3, root: rootOf(leaves.slice(0, 3)) };
  for (const options of [{ signer: signerOf(9) }, { origin: "log.example/other", signer: logSigner }]) {
    const note = await signedCheckpoint(head, options);
    await assert.rejects(open().cosign({ note, prove }), VerificationError);
  }
  assert.equal(requests.length, 0);
});

test("a witness without an http address cannot be opened", () => {
  for (const url of [undefined, "witness.example", "ftp://witness.example/"]) {
    const witness = { name: "w1", verifier: witnessVerifier, ...(url !== undefined && { url }) };
    assert.throws(() => openWitness(logVerifier, [witness]), OperationError);
  }
});
