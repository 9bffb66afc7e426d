/** What the process of a reader and its parent say to each other over their IPC channel. */

/** Parent to child. `tag` names the tag meant: a child never passes a command on to another than that one. */
export type ReaderRequest =
  | { readonly kind: "transmit"; readonly id: number; readonly tag: number; readonly apdu: Uint8Array }
  /** Disconnect and connect again: wakes a tag up that fell back to idle after a NAK. */
  | { readonly kind: "reconnect"; readonly id: number; readonly tag: number };

/** Child to parent. */
export type ReaderReport =
  | { readonly kind: "unavailable"; readonly cause: PcscProblem; readonly reason: string }
  /** A reader with a name that is not the wanted one. */
  | { readonly kind: "seen"; readonly name: string }
  | { readonly kind: "ready"; readonly name: string }
  /** Tags are numbered in the order in which they were laid down. */
  | { readonly kind: "tag"; readonly tag: number }
  | { readonly kind: "removed" }
  /** A tag is felt but could not be powered: it lies badly, or it is broken. */
  | { readonly kind: "unpowered" }
  | { readonly kind: "answer"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly kind: "failed"; readonly id: number; readonly gone: boolean; readonly reason: string }
  | { readonly kind: "unplugged" };

export type PcscProblem = "module-missing" | "not-built" | "library-missing" | "service";
