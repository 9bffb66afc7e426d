/**
 * Obeys the control commands: readers come and go, tags are made, laid down, taken away, saved and loaded, and
 * faults are armed. Holds all tags by UID, so that a tag that was pulled away is the same one when it comes back.
 */
import path from "node:path";
import { ensureFolder, PRIVATE_FOLDER, readFileBounded, writeFileDurable } from "@viafabric/platform";
import { formatHex, OperationError, parseHex, quote } from "@viafabric/schemas";
import type { PcscService } from "./pcsc-service.ts";
import type { Fault, HandOptions, ReaderStatus, SimulatorCommand, TagContent } from "./simulator-protocol.ts";
import { modelByDumpLength, modelByName } from "./tag-model.ts";
import { VirtualReader } from "./virtual-reader.ts";
import { blankTag, tagOfDump, type VirtualTag } from "./virtual-tag.ts";

const UID_BYTES = 7;
/** NXP's manufacturer code, first in the UID of every NTAG. */
const NXP = 0x04;
/** An NTAG216. */
const DUMP_BYTES_MAX = 1024;
/** From the beep to the hand taking the tag away: the writer has its answer before the tag is gone. */
const REACTION_MS = 5;

/** What the simulator counts for a reader besides the reader itself. */
interface Desk {
  successes: number;
  failures: number;
  handLeft: number;
  /** The hand at this desk, which hears the success beeps; a new one replaces it. */
  onSuccess: () => void;
}

export class SimulatorControl {
  readonly #service: PcscService;
  readonly #random: (length: number) => Uint8Array;
  readonly #tags = new Map<string, VirtualTag>();
  readonly #desks = new Map<string, Desk>();

  /** @param random source of UIDs */
  constructor(service: PcscService, random: (length: number) => Uint8Array) {
    this.#service = service;
    this.#random = random;
  }

  async run(command: SimulatorCommand): Promise<unknown> {
    switch (command.op) {
      case "add-reader":
        return this.#addReader(command.name, command.passThrough);
      case "remove-reader":
        this.#reader(command.name);
        this.#service.readers.delete(command.name);
        return this.#service.notify();
      case "create-tag":
        return { uid: this.#createTag(command.model, command.uid, command.memory) };
      case "load-tag":
        return { uid: this.#keep(await readFileBounded(command.file, DUMP_BYTES_MAX)) };
      case "save-tag":
        return writeFileDurable(command.file, this.#tag(command.uid).memory);
      case "read-tag":
        return this.#content(this.#tag(command.uid));
      case "insert":
        return this.#reader(command.reader).insert(this.#tag(command.uid), command.unpowered);
      case "remove":
        return this.#reader(command.reader).remove();
      case "arm":
        return this.#arm(command.reader, command.fault, command.at);
      case "status":
        return this.#status(command.reader);
      case "hand":
        return this.#startHand(command.reader, command.hand);
      default:
        throw refused(`an unknown command: ${quote(JSON.stringify(command))}`);
    }
  }

  #addReader(name: string, passThrough: boolean): void {
    if (this.#service.readers.has(name)) throw refused(`there is a reader ${quote(name)} already`);
    const reader = new VirtualReader(name, passThrough, () => this.#service.notify());
    const desk: Desk = { successes: 0, failures: 0, handLeft: 0, onSuccess: () => {} };
    reader.onSignal = (success) => {
      if (success) {
        desk.successes++;
        desk.onSuccess();
      } else {
        desk.failures++;
      }
    };
    this.#desks.set(name, desk);
    this.#service.readers.set(name, reader);
    this.#service.notify();
  }

  #createTag(modelName: string, uidText?: string, memory?: string): string {
    const model = modelByName(modelName);
    if (!model) throw refused(`an unknown tag model ${quote(modelName)}`);
    if (memory !== undefined) return this.#keep(parseHex(memory, model.pages * 4));
    const uid = uidText === undefined ? this.#random(UID_BYTES) : parseHex(uidText, UID_BYTES);
    uid[0] = NXP;
    return this.#keep(blankTag(model, uid).memory);
  }

  #keep(dump: Uint8Array): string {
    const model = modelByDumpLength(dump.length);
    if (!model) throw refused(`a dump of ${dump.length} bytes is of no tag we know`);
    const tag = tagOfDump(model, dump);
    const uid = formatHex(tag.uid);
    this.#tags.set(uid, tag);
    return uid;
  }

  #content(tag: VirtualTag): TagContent {
    return { model: tag.model.name, uid: formatHex(tag.uid), memory: formatHex(tag.memory) };
  }

  #arm(readerName: string, fault: Fault, at: number): void {
    this.#reader(readerName).arm(fault, at, fault.kind === "swap" ? this.#tag(fault.uid) : undefined);
  }

  #status(name: string): ReaderStatus {
    const reader = this.#reader(name);
    const { successes, failures, handLeft } = this.#desks.get(name)!;
    return {
      apdus: reader.apdus,
      successes,
      failures,
      handLeft,
      watchers: this.#service.watchers,
      ...(reader.tag ? { uid: formatHex(reader.tag.uid) } : {}),
    };
  }

  /** Lays down the first tag and returns; the rest happens at the beeps. */
  async #startHand(readerName: string, hand: HandOptions): Promise<void> {
    const reader = this.#reader(readerName);
    const desk = this.#desks.get(readerName)!;
    await ensureFolder(hand.folder, PRIVATE_FOLDER);
    desk.handLeft = hand.count;
    const layDown = () => reader.insert(this.#tag(this.#createTag(hand.model)));
    const swap = async () => {
      const tag = reader.tag;
      if (!tag || desk.handLeft === 0) return;
      await writeFileDurable(path.join(hand.folder, `${formatHex(tag.uid)}.bin`), tag.memory);
      reader.remove();
      desk.handLeft--;
      if (desk.handLeft > 0) setTimeout(layDown, hand.pauseMs);
    };
    desk.onSuccess = () => setTimeout(() => void swap(), REACTION_MS);
    layDown();
  }

  #reader(name: string): VirtualReader {
    const reader = this.#service.readers.get(name);
    if (!reader) throw refused(`there is no reader ${quote(name)}`);
    return reader;
  }

  #tag(uid: string): VirtualTag {
    const tag = this.#tags.get(uid);
    if (!tag) throw refused(`there is no tag ${quote(uid)}`);
    return tag;
  }
}

function refused(reason: string): OperationError {
  return new OperationError("ERR_SIMULATOR", reason);
}
