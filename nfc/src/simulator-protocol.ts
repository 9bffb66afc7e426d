/**
 * What is said over the simulator's control socket: one JSON object a line, `{id, ...command}` answered by
 * `{id, result}` or `{id, error}`. Bytes are lower-case hex.
 */
import type { WriteExtent } from "./virtual-tag.ts";

/** What goes wrong at one APDU. `extent`: how much of a page write still takes effect. */
export type Fault =
  /** The tag is pulled away. */
  | { readonly kind: "tear"; readonly extent: WriteExtent }
  /** The reader answers 63 00; the tag stays. */
  | { readonly kind: "refuse"; readonly extent: WriteExtent }
  /** The USB transfer fails; the tag stays. */
  | { readonly kind: "communication"; readonly extent: WriteExtent }
  /** The reader never answers. */
  | { readonly kind: "silence" }
  /** The write is acknowledged and does not take; in a worn-out page no later one either. */
  | { readonly kind: "drop"; readonly worn: boolean }
  /** Another tag takes the place, and the reader does not notice. */
  | { readonly kind: "swap"; readonly uid: string };

export type SimulatorCommand =
  | { readonly op: "add-reader"; readonly name: string; readonly passThrough: boolean }
  | { readonly op: "remove-reader"; readonly name: string }
  | { readonly op: "create-tag"; readonly model: string; readonly uid?: string; readonly memory?: string }
  | { readonly op: "load-tag"; readonly file: string }
  | { readonly op: "save-tag"; readonly uid: string; readonly file: string }
  | { readonly op: "read-tag"; readonly uid: string }
  | { readonly op: "insert"; readonly reader: string; readonly uid: string; readonly unpowered?: boolean }
  | { readonly op: "remove"; readonly reader: string }
  | { readonly op: "arm"; readonly reader: string; readonly fault: Fault; readonly at: number }
  | { readonly op: "status"; readonly reader: string }
  | { readonly op: "hand"; readonly reader: string; readonly hand: HandOptions };

/** A person who lays one blank tag after the other on the reader, and takes it away at the success beep. */
export interface HandOptions {
  readonly folder: string;
  readonly model: string;
  readonly count: number;
  /** Between taking a tag away and laying the next one down. */
  readonly pauseMs: number;
}

export interface ReaderStatus {
  readonly apdus: number;
  readonly successes: number;
  readonly failures: number;
  /** Of the tag in the field. */
  readonly uid?: string;
  /** Tags the hand has still to lay down, the one in the field included. */
  readonly handLeft: number;
  /** Threads of PC/SC clients that wait for a change of any reader. */
  readonly watchers: number;
}

export interface TagContent {
  readonly model: string;
  readonly uid: string;
  readonly memory: string;
}

/** Where a started simulator listens: its first line on standard output. */
export interface SimulatorSockets {
  /** For PCSCLITE_CSOCK_NAME. */
  readonly pcsc: string;
  readonly control: string;
}

/** A dump of an NTAG216 in hex and a file name fit many times. */
export const COMMAND_BYTES_MAX = 64 * 1024;
