/**
 * The service side of pcsc-lite's client protocol, version 4.4, on a private UNIX socket: what pcscd is to
 * libpcsclite (its winscard_msg.h). Clients find it through the environment variable PCSCLITE_CSOCK_NAME.
 *
 * A request is u32 size, u32 command, `size` bytes; the answer is the same structure filled in, without a header.
 * Integers have the machine's byte order, and the return code is the last field. Each client connection is one
 * context. It must be another process than its clients: they block their thread while they wait.
 */
import { createServer, type Server, type Socket } from "node:net";
import { endianness } from "node:os";
import { RV, type VirtualReader } from "./virtual-reader.ts";

const COMMAND = {
  establishContext: 0x01,
  releaseContext: 0x02,
  connect: 0x04,
  reconnect: 0x05,
  disconnect: 0x06,
  beginTransaction: 0x07,
  endTransaction: 0x08,
  transmit: 0x09,
  control: 0x0a,
  status: 0x0b,
  cancel: 0x0d,
  version: 0x11,
  readerStates: 0x12,
  waitStateChange: 0x13,
  stopWaiting: 0x14,
} as const;

/** Bytes of each structure we read fields of or fill in; other commands need only room for a return code. */
const STRUCTURE_BYTES: Readonly<Record<number, number>> = {
  [COMMAND.version]: 12,
  [COMMAND.establishContext]: 12,
  [COMMAND.connect]: 152,
  [COMMAND.reconnect]: 24,
  [COMMAND.disconnect]: 12,
  [COMMAND.transmit]: 32,
  [COMMAND.control]: 24,
  [COMMAND.cancel]: 8,
  [COMMAND.readerStates]: 0,
  [COMMAND.waitStateChange]: 0,
  [COMMAND.stopWaiting]: 0,
};

const READERS_MAX = 16;
const READER_NAME_BYTES = 128;
const READER_STATE_BYTES = 184;
const HEADER_BYTES = 8;
/** Larger than any structure (getset_struct has 280 bytes) and any APDU we answer. */
const REQUEST_BYTES_MAX = 4096;
/** PC/SC part 3: ISO 14443-3, an Ultralight by name. */
const ATR = Buffer.from("3b8f8001804f0ca0000003060300030000000068", "hex");
const STATE = { absent: 0x0002, present: 0x0004, powered: 0x0010, negotiable: 0x0020 } as const;
const PROTOCOL_T1 = 2;
const SHARE_DIRECT = 3;
const LITTLE = endianness() === "LE";

interface Client {
  readonly socket: Socket;
  readonly context: number;
  waiting: boolean;
}

/** A card handle is good for the tag that was there when it was given out. */
interface CardHandle {
  readonly reader: VirtualReader;
  readonly events: number;
}

export class PcscService {
  readonly readers = new Map<string, VirtualReader>();
  readonly #server: Server;
  readonly #clients = new Map<Socket, Client>();
  readonly #cards = new Map<number, CardHandle>();
  #nextId = 1;

  constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  listen(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, resolve);
    });
  }

  close(): void {
    this.#server.close();
    for (const { socket } of this.#clients.values()) socket.destroy();
  }

  /** Clients that wait to be told of a change. */
  get watchers(): number {
    return [...this.#clients.values()].filter(({ waiting }) => waiting).length;
  }

  /** Tells every waiting client once; it then asks for the states itself. */
  notify(): void {
    for (const client of this.#clients.values()) this.#wake(client, RV.success);
  }

  #accept(socket: Socket): void {
    const client: Client = { socket, context: this.#nextId++, waiting: false };
    this.#clients.set(socket, client);
    let pending = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (let used = 1; used > 0; pending = pending.subarray(used)) used = this.#request(client, pending);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#clients.delete(socket));
  }

  /** Serves one request from the front of `bytes`. @returns bytes used, 0 while it is incomplete */
  #request(client: Client, bytes: Buffer): number {
    if (bytes.length < HEADER_BYTES) return 0;
    const size = getU32(bytes, 0);
    const command = getU32(bytes, 4);
    if (size > REQUEST_BYTES_MAX || size < (STRUCTURE_BYTES[command] ?? 4)) return hangUp(client);
    if (bytes.length < HEADER_BYTES + size) return 0;
    const body = Buffer.from(bytes.subarray(HEADER_BYTES, HEADER_BYTES + size));
    const extra = extraBytes(command, body);
    if (extra > REQUEST_BYTES_MAX) return hangUp(client);
    const end = HEADER_BYTES + size + extra;
    if (bytes.length < end) return 0;
    const answer = this.#serve(client, command, body, bytes.subarray(HEADER_BYTES + size, end));
    if (answer) client.socket.write(answer);
    return end;
  }

  /** @returns what is sent back, or undefined for silence */
  #serve(client: Client, command: number, body: Buffer, extra: Buffer): Uint8Array | undefined {
    switch (command) {
      case COMMAND.version:
        setU32(body, 0, 4);
        setU32(body, 4, 4);
        return withCode(body, RV.success);
      case COMMAND.establishContext:
        setU32(body, 4, client.context);
        return withCode(body, RV.success);
      case COMMAND.connect:
        return this.#connect(body);
      case COMMAND.reconnect:
        setU32(body, 16, PROTOCOL_T1);
        return withCode(body, this.#reconnect(getU32(body, 0)));
      case COMMAND.disconnect:
        this.#cards.delete(getU32(body, 0));
        return withCode(body, RV.success);
      case COMMAND.releaseContext:
      case COMMAND.beginTransaction:
      case COMMAND.endTransaction:
      case COMMAND.status:
        return withCode(body, RV.success);
      case COMMAND.transmit:
        return this.#transmit(body, extra);
      case COMMAND.readerStates:
        return this.#readerStates();
      case COMMAND.waitStateChange:
        client.waiting = true;
        return this.#readerStates();
      case COMMAND.stopWaiting:
        // Nothing is sent to a client that has just been told of a change: it reads that answer instead.
        this.#wake(client, RV.success);
        return undefined;
      case COMMAND.cancel:
        return withCode(body, this.#cancel(getU32(body, 0)));
      default:
        // Control codes and attributes: a reader may refuse them.
        return withCode(body, RV.unsupported);
    }
  }

  #connect(body: Buffer): Uint8Array {
    const name = body.toString("latin1", 4, 4 + READER_NAME_BYTES).split("\0")[0]!;
    const reader = this.readers.get(name);
    if (!reader) return withCode(body, RV.unknownReader);
    const direct = getU32(body, 4 + READER_NAME_BYTES) === SHARE_DIRECT;
    if (!direct && !reader.tag) return withCode(body, RV.noCard);
    if (!direct && reader.unpowered) return withCode(body, RV.unresponsiveCard);
    const handle = this.#nextId++;
    this.#cards.set(handle, { reader, events: reader.events });
    setU32(body, 140, handle);
    setU32(body, 144, PROTOCOL_T1);
    return withCode(body, RV.success);
  }

  #reconnect(handle: number): number {
    const card = this.#cards.get(handle);
    if (!card) return RV.invalidHandle;
    if (!card.reader.tag) return RV.noCard;
    this.#cards.set(handle, { reader: card.reader, events: card.reader.events });
    return RV.success;
  }

  #transmit(body: Buffer, apdu: Buffer): Uint8Array | undefined {
    const card = this.#cards.get(getU32(body, 0));
    if (!card) return withCode(body, RV.invalidHandle);
    if (this.readers.get(card.reader.name) !== card.reader) return withCode(body, RV.readerUnavailable);
    if (card.events !== card.reader.events) return withCode(body, RV.removedCard);
    const result = card.reader.transmit(new Uint8Array(apdu));
    if (result.kind === "silence") return undefined;
    if (result.kind === "error") return withCode(body, result.rv);
    setU32(body, 24, result.bytes.length);
    return Buffer.concat([withCode(body, RV.success), result.bytes]);
  }

  #cancel(context: number): number {
    for (const other of this.#clients.values()) {
      if (other.context === context) this.#wake(other, RV.cancelled);
    }
    return RV.success;
  }

  #wake(client: Client, rv: number): void {
    if (!client.waiting) return;
    client.waiting = false;
    client.socket.write(withCode(Buffer.alloc(8), rv));
  }

  #readerStates(): Buffer {
    const out = Buffer.alloc(READERS_MAX * READER_STATE_BYTES);
    let at = 0;
    for (const reader of [...this.readers.values()].slice(0, READERS_MAX)) {
      const powered = STATE.present | STATE.powered | STATE.negotiable;
      const state = !reader.tag ? STATE.absent : reader.unpowered ? STATE.present : powered;
      out.write(reader.name, at, READER_NAME_BYTES - 1, "latin1");
      setU32(out, at + 128, reader.events);
      setU32(out, at + 132, state);
      if (state === powered) {
        ATR.copy(out, at + 140);
        setU32(out, at + 176, ATR.length);
        setU32(out, at + 180, PROTOCOL_T1);
      }
      at += READER_STATE_BYTES;
    }
    return out;
  }
}

/** The structure with its last field, the return code. */
function withCode(body: Buffer, rv: number): Buffer {
  setU32(body, body.length - 4, rv);
  return body;
}

/** Nothing can follow a request whose length is wrong. */
function hangUp(client: Client): 0 {
  client.socket.destroy();
  return 0;
}

/** transmit and control carry their data behind the structure. */
function extraBytes(command: number, body: Buffer): number {
  if (command === COMMAND.transmit) return getU32(body, 12);
  if (command === COMMAND.control) return getU32(body, 8);
  return 0;
}

function getU32(bytes: Buffer, at: number): number {
  return LITTLE ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
}

function setU32(bytes: Buffer, at: number, value: number): void {
  if (LITTLE) bytes.writeUInt32LE(value, at);
  else bytes.writeUInt32BE(value, at);
}
