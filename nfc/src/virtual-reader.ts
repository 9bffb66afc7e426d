/**
 * A contactless reader like the ACR122U: takes APDUs, talks to the tag in its field, blinks and beeps; and, when
 * told so, fails the way readers and people do.
 */
import { concat, equalBytes } from "@viafabric/schemas";
import { SIGNAL_FAILURE, SIGNAL_SUCCESS, TAG_COMMAND } from "./apdu.ts";
import type { Fault } from "./simulator-protocol.ts";
import { execute, type VirtualTag, type WriteExtent } from "./virtual-tag.ts";

/** PC/SC return codes (pcsclite.h). */
export const RV = {
  success: 0,
  cancelled: 0x80100002,
  invalidHandle: 0x80100003,
  unknownReader: 0x80100009,
  noCard: 0x8010000c,
  readerUnavailable: 0x80100017,
  communication: 0x8010002f,
  unsupported: 0x80100022,
  unresponsiveCard: 0x80100066,
  removedCard: 0x80100069,
} as const;

export type TransmitResult =
  | { readonly kind: "answer"; readonly bytes: Uint8Array }
  | { readonly kind: "error"; readonly rv: number }
  /** The reader hangs: there will be no answer. */
  | { readonly kind: "silence" };

const OK = new Uint8Array([0x90, 0x00]);
const FAILED = new Uint8Array([0x63, 0x00]);
const NOT_SUPPORTED = new Uint8Array([0x6a, 0x81]);
const FIRMWARE = new TextEncoder().encode("ACR122U215");
/** Status byte of the PN532 for a CRC error, which is how a NAK looks. */
const PN532_NAK = 0x02;

export class VirtualReader {
  readonly name: string;
  /** Whether raw commands reach the tag, as with a PN532 behind the plug. */
  readonly passThrough: boolean;
  /** Counts insertions and removals, as PC/SC does. */
  events = 0;
  /** APDUs since the last tag was laid on. */
  apdus = 0;
  tag: VirtualTag | undefined;
  /** The tag is felt but cannot be powered: no connection is possible. */
  unpowered = false;
  onSignal: (success: boolean) => void = () => {};
  readonly #onChange: () => void;
  #fault: { readonly fault: Fault; at: number } | undefined;

  constructor(name: string, passThrough: boolean, onChange: () => void) {
    this.name = name;
    this.passThrough = passThrough;
    this.#onChange = onChange;
  }

  insert(tag: VirtualTag, unpowered = false): void {
    tag.authenticated = false;
    this.tag = tag;
    this.unpowered = unpowered;
    this.apdus = 0;
    this.#changed();
  }

  remove(): void {
    if (!this.tag) return;
    this.tag = undefined;
    this.#changed();
  }

  /** Strikes at the APDU with this number, counted from 1 and from now. */
  arm(fault: Fault, at: number, tagToSwapIn: VirtualTag | undefined): void {
    this.#fault = { fault, at };
    this.#swapIn = tagToSwapIn;
  }
  #swapIn: VirtualTag | undefined;

  transmit(apdu: Uint8Array): TransmitResult {
    this.apdus++;
    const fault = this.#strike();
    if (!this.tag) return { kind: "error", rv: RV.removedCard };
    switch (fault?.kind) {
      case undefined:
        return { kind: "answer", bytes: this.#answer(apdu, "whole") };
      case "tear":
        this.#answer(apdu, fault.extent);
        this.remove();
        return { kind: "error", rv: RV.removedCard };
      case "refuse":
        // 63 00 does not say whether the tag took the write: both happen.
        this.#answer(apdu, fault.extent);
        return { kind: "answer", bytes: FAILED };
      case "communication":
        this.#answer(apdu, fault.extent);
        return { kind: "error", rv: RV.communication };
      case "silence":
        return { kind: "silence" };
      case "swap":
        this.tag = this.#swapIn;
        return { kind: "answer", bytes: this.#answer(apdu, "whole") };
      case "drop":
        if (fault.worn && apdu[1] === 0xd6) this.tag.worn.add(apdu[3]!);
        return { kind: "answer", bytes: this.#answer(apdu, "none") };
    }
  }

  #strike(): Fault | undefined {
    if (!this.#fault || --this.#fault.at > 0) return undefined;
    const { fault } = this.#fault;
    this.#fault = undefined;
    return fault;
  }

  #answer(apdu: Uint8Array, extent: WriteExtent): Uint8Array {
    const tag = this.tag;
    const [cla, ins, p1, p2 = 0, length = 0] = apdu;
    if (cla !== 0xff || !tag) return NOT_SUPPORTED;
    switch (ins) {
      case 0xca:
        return p1 === 0 ? concat(tag.uid, OK) : NOT_SUPPORTED;
      case 0xb0: {
        const data = execute(tag, new Uint8Array([TAG_COMMAND.read, p2]));
        return data && length <= data.length ? concat(data.subarray(0, length), OK) : FAILED;
      }
      case 0xd6: {
        const command = concat(new Uint8Array([TAG_COMMAND.write, p2]), apdu.subarray(5));
        return length === 4 && execute(tag, command, extent) ? OK : FAILED;
      }
      case 0x00:
        return this.passThrough ? this.#readerCommand(tag, apdu, extent) : NOT_SUPPORTED;
      default:
        return NOT_SUPPORTED;
    }
  }

  /** What only a reader with a PN532 knows: raw commands, firmware, LED and buzzer. */
  #readerCommand(tag: VirtualTag, apdu: Uint8Array, extent: WriteExtent): Uint8Array {
    if (apdu[2] === 0x48) return FIRMWARE;
    if (apdu[2] === 0x52) return OK;
    if (apdu[2] === 0x40) {
      if (equalBytes(apdu, SIGNAL_SUCCESS)) this.onSignal(true);
      if (equalBytes(apdu, SIGNAL_FAILURE)) this.onSignal(false);
      return new Uint8Array([0x90, apdu[3]! & 3]);
    }
    if (apdu[5] !== 0xd4 || apdu[6] !== 0x42) return NOT_SUPPORTED;
    const data = execute(tag, apdu.slice(7), extent);
    return concat(new Uint8Array([0xd5, 0x43, data ? 0 : PN532_NAK]), data ?? new Uint8Array(0), OK);
  }

  #changed(): void {
    this.events++;
    this.#onChange();
  }
}
