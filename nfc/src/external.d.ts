/** Types of the two packages behind this room's doorways; neither ships its own. Only what we call. */

declare module "ndef" {
  export interface NdefJsRecord {
    readonly tnf: number;
    readonly type: string;
    readonly id: number[];
    readonly payload: number[];
  }
  export function record(tnf: number, type: string, id: number[], payload: number[]): NdefJsRecord;
  export function uriRecord(uri: string): NdefJsRecord;
  export function encodeMessage(records: readonly NdefJsRecord[]): number[];
}

declare module "nfc-pcsc" {
  import type { EventEmitter } from "node:events";

  /** The reader of @pokusew/pcsclite below nfc-pcsc's own. */
  export interface RawReader extends EventEmitter {
    readonly name: string;
    readonly connected: boolean;
    readonly SCARD_STATE_EMPTY: number;
    readonly SCARD_STATE_PRESENT: number;
  }

  export interface Reader extends EventEmitter {
    readonly name: string;
    readonly reader: RawReader;
    autoProcessing: boolean;
    readonly connection: { readonly protocol?: number } | null;
    connect(): Promise<unknown>;
    disconnect(): Promise<unknown>;
    transmit(data: Buffer, responseMaxLength: number): Promise<Buffer>;
  }

  export class NFC extends EventEmitter {
    close(): void;
  }
}
