/**
 * The simulator's process: a PC/SC service with virtual readers and tags, and a control socket beside it.
 *
 *     node simulator-main.js --folder DIR [--reader NAME] [--hand DIR --model ntag213 --count N [--pause MS]]
 *
 * Prints the two sockets as one JSON line when it is ready. Ends on SIGTERM, SIGINT, or with the process that
 * started it over an IPC channel. Both sockets are in DIR and open to their owner only.
 */
import { randomBytes } from "node:crypto";
import { chmod, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER } from "@viafabric/platform";
import { CodedError } from "@viafabric/schemas";
import { PcscService } from "./pcsc-service.ts";
import { SimulatorControl } from "./simulator-control.ts";
import { COMMAND_BYTES_MAX, type SimulatorCommand, type SimulatorSockets } from "./simulator-protocol.ts";

const { values } = parseArgs({
  options: {
    folder: { type: "string" },
    reader: { type: "string", multiple: true },
    hand: { type: "string" },
    model: { type: "string", default: "ntag213" },
    count: { type: "string", default: "1" },
    pause: { type: "string", default: "30" },
  },
});
if (!values.folder) {
  console.error("usage: simulator-main --folder DIR [--reader NAME] [--hand DIR --model M --count N --pause MS]");
  process.exit(2);
}

await ensureFolder(values.folder, PRIVATE_FOLDER);
const sockets: SimulatorSockets = {
  pcsc: path.join(values.folder, "pcscd.comm"),
  control: path.join(values.folder, "control"),
};
const service = new PcscService();
const control = new SimulatorControl(service, (length) => new Uint8Array(randomBytes(length)));
const controlServer = createServer((socket) => serveControl(socket));

for (const socket of Object.values(sockets) as string[]) await rm(socket, { force: true });
await service.listen(sockets.pcsc);
await new Promise<void>((resolve) => controlServer.listen(sockets.control, resolve));
for (const socket of Object.values(sockets) as string[]) await chmod(socket, PRIVATE_FILE);
for (const name of values.reader ?? []) await control.run({ op: "add-reader", name, passThrough: true });
if (values.hand && values.reader?.[0]) {
  const hand = { folder: values.hand, model: values.model, count: Number(values.count), pauseMs: Number(values.pause) };
  await control.run({ op: "hand", reader: values.reader[0], hand });
}
process.once("SIGTERM", stop);
process.once("SIGINT", stop);
process.once("disconnect", stop);
console.log(JSON.stringify(sockets));

function stop(): void {
  service.close();
  controlServer.close();
  for (const socket of Object.values(sockets) as string[]) void rm(socket, { force: true });
  process.exit(0);
}

function serveControl(socket: Socket): void {
  socket.on("error", () => socket.destroy());
  createInterface({ input: socket }).on("line", (line) => void answer(socket, line));
}

async function answer(socket: Socket, line: string): Promise<void> {
  if (line.length > COMMAND_BYTES_MAX) return void socket.destroy();
  let id: unknown;
  try {
    const request = JSON.parse(line) as SimulatorCommand & { readonly id: number };
    id = request.id;
    socket.write(`${JSON.stringify({ id, result: await control.run(request) })}\n`);
  } catch (error) {
    // A bug of ours must not look like a refusal.
    if (!(error instanceof CodedError || error instanceof SyntaxError)) throw error;
    socket.write(`${JSON.stringify({ id, error: error.message })}\n`);
  }
}
