/**
 * Three ways to say no, each with a closed set of codes.
 *
 * A code is part of the interface: programs switch on it, docs/errors.md explains it, and a test holds the two
 * together. The message is for people and may change; it names the value that was wrong and what to do next.
 * A broken invariant of our own is an AssertionError instead, and is never caught.
 */

/** The bytes are not what the format says. Thrown by parse… and decode…. */
export const FORMAT_CODES = {
  ERR_BASE64: "Text is not canonical base64 or base64url. Copy it again from its source.",
  ERR_HEX: "Text is not lower-case hexadecimal of the expected length.",
  ERR_INTEGER: "A number is not a plain decimal within its range.",
  ERR_UTF8: "Bytes are not valid UTF-8.",
  ERR_LENGTH: "Bytes are shorter or longer than their format allows.",
  ERR_CBOR: "Bytes are not deterministic CBOR (RFC 8949 section 4.2) of the expected shape.",
  ERR_JSON: "Text is not the JSON document expected here.",
  ERR_KEY: "A public key is malformed, of an unsupported kind, or of small order.",
  ERR_DID: "Text is not a did:key of an Ed25519 key.",
  ERR_RCT_ID: "Text is not the 26 Crockford characters of a token id.",
  ERR_TRUST_REQUEST: "A change of keys, profiles, policies or witnesses that was asked for is malformed.",
  ERR_REQUEST_BODY: "The body, path or query of a request does not fit its route. /openapi.json describes it.",
  ERR_REQUEST: "The headers that sign a request are missing or malformed.",
  ERR_GENESIS:
    "Cards, keys and names do not make an authority, or a genesis folder is incomplete. The message says what.",
  ERR_BATCH_REQUEST: "A batch request is not the JSON object it must be. The message names the field.",
  ERR_NOTE: "Text is not a signed note (C2SP signed-note).",
  ERR_VKEY: "Text is not a verifier key of a signed note.",
  ERR_CHECKPOINT: "Text is not a checkpoint of a log (C2SP tlog-checkpoint), or it has extension lines.",
  ERR_TILE_PATH: "Text is not the path of a tile or entry bundle (C2SP tlog-tiles) in its one spelling.",
  ERR_TILE: "A tile or entry bundle does not have the bytes its place in the tree demands.",
  ERR_LOG_POLICY: "Text is not a log policy (C2SP tlog-policy). The message names the line.",
  ERR_WITNESS_REQUEST: "Bytes are not an add-checkpoint request to a witness (C2SP tlog-witness).",
  ERR_LOG_PROOF: "Text is not a proof file of the log (C2SP tlog-proof).",
  ERR_LOG_SEGMENT:
    "A staged append of the log is damaged on disk. Keep a copy; restore the staging folder, or ask before removing it.",
  ERR_LOG_ENTRY: "A log entry is longer than the 65,535 bytes an entry bundle can frame, or there is none to append.",
  ERR_TOKEN: "Bytes are not a Resource Capability Token in any of its spellings.",
  ERR_TOKEN_VERSION: "The token is of a version this program does not know. Update the program.",
  ERR_MANIFEST: "Bytes are not a batch manifest.",
  ERR_HEAD: "Bytes are not a head of approved batches.",
  ERR_LEAF: "Bytes are not an entry of this authority's log.",
  ERR_EVENT: "Bytes are not a status event.",
  ERR_KIT: "Bytes are not a kit for a writing station.",
  ERR_RECEIPT: "Bytes are not a write receipt.",
  ERR_NDEF: "Bytes are not a well-formed NDEF message.",
  ERR_TLV: "The data area of a tag is not made of well-formed TLV blocks.",
  ERR_TAG_LAYOUT: "A tag holds no message in one of our layouts.",
  ERR_TRUST_FILE: "A trust file (keys, rules, log policy) is malformed.",
  ERR_PROFILE: "A capability profile is malformed. The message says where.",
  ERR_POLICY_BUNDLE:
    "Files cannot be a policy bundle, or bytes are not the manifest of one. The message names the file or the bound.",
  ERR_RVX1: "Bytes are not an RVX1 set, delta or chunk file.",
  ERR_STATEMENT: "Text is not a status statement.",
  ERR_LEDGER: "Bytes are not a saved status ledger. Replay the log instead.",
  ERR_WORDS: "The words are not the spelling of an identifier.",
  ERR_METADATA: "Bytes are not TUF metadata of this authority's profile.",
  ERR_CARD: "Bytes are not an enrolment card or an authority card, or the cards do not make an authority.",
  ERR_PROPOSAL: "Bytes are not a proposal that trustees can sign.",
  ERR_NOTIFY: "notify.json, or a secret that it names, is not as it must be. The message says what to change.",
  ERR_CARRIED:
    "A file of proposals or decisions, carried between machines, is damaged or of another version. Write it again.",
  ERR_TRANSCRIPT: "Bytes are not a transcript of a key ceremony in its one spelling.",
  ERR_HSM_URI: "Text is not a PKCS#11 URI (RFC 7512) of the kind read here. The message names the attribute.",
  ERR_FRAME: "A message on the signer's socket is malformed or too large.",
} as const;

/** Well formed, but it does not earn trust. Thrown by verify…. */
export const VERIFICATION_CODES = {
  ERR_SIGNATURE: "A signature does not verify.",
  ERR_SET_ROOT: "A decoded status set does not have the signed root. Fetch it again, from another mirror.",
  ERR_SET_MISSING: "A status file that must have been published is not there. Try another mirror.",
  ERR_SET_OTHER: "A status file is of another plane, epoch or size than the one asked for.",
  ERR_STATUS_CHAIN: "A status statement does not name the hash of the one before it.",
  ERR_STATUS_FORK: "Two different status statements of one epoch. Keep both: this is evidence.",
  ERR_STATUS_ROLLBACK: "A status statement is older, or counts fewer tokens or log entries, than one seen before.",
  ERR_EVENT_ORDER: "A log entry was replayed out of order.",
  ERR_EVENT_REPEATED: "A status event was logged before; a body counts once.",
  ERR_EVENT_RANGE: "A status event or batch names indices it may not name.",
  ERR_EVENT_UNDOES: "A reinstatement names an entry that suspended and revoked nothing.",
  ERR_TRUST_CHANGE: "Keys, profiles, policies or witnesses cannot be changed in this way. The message says why.",
  ERR_BATCH_REFUSED: "The vault could not plan the batch that was asked for. The message says why.",
  ERR_RECEIPT_CHAIN: "A write receipt does not continue the chain of its kit. Send all receipts in their order.",
  ERR_UNAUTHORIZED: "The request is not signed by a key that may do this. Nothing was changed.",
  ERR_REQUEST_STALE: "A request was signed too long ago or in the future. Set the clock and send it again.",
  ERR_THRESHOLD: "Fewer distinct trustee keys signed than the role demands.",
  ERR_KIT_STATION: "The batch gives this station nothing to write.",
  ERR_KIT_REFUSED:
    "A kit does not pass the verifier that nodes run. It is not handed out; compare the vault with its public files.",
  ERR_BATCH_PROFILE: "A batch request names a profile that is not in the catalogue or the rules of the trustees.",
  ERR_BATCH_KEY:
    "A batch request names a station or release key that the trust files do not list for that purpose now.",
  ERR_INDEX_EXHAUSTED: "The authority has no 32-bit token indices left for a batch of this size.",
  ERR_BATCH_TIME: "A batch request asks for times at which it could not be claimed, or its issuer key is not valid.",
  ERR_AUTHORITY: "Something belongs to another authority than the one expected.",
  ERR_ROLLBACK: "A version is older than one already accepted, or does not follow it. Compare with another mirror.",
  ERR_METADATA_EXPIRED: "Signed metadata has expired: the trustees must sign again, or a mirror is holding news back.",
  ERR_POLICY_LINEAGE:
    "A policy is of another lineage, older than one already accepted, or not the files its manifest lists. Nothing was taken over.",
  ERR_FREEZE:
    "Every mirror that answered shows metadata that has expired: nobody signs any more, or all of them hold news back, or this clock is ahead. Try another mirror, or a stick from the vault.",
  ERR_METADATA_MISMATCH: "A metadata or target file is not the one that signed metadata lists.",
  ERR_HEAD_FORK:
    "Two heads of one version, or a head that does not extend the accepted one. Keep both: this is evidence.",
  ERR_DELEGATION: "The targets role does not delegate as this authority's profile says.",
  ERR_PROPOSAL_MISMATCH:
    "What came with a proposal does not make what it asks to sign. Nothing was signed; keep it, it is evidence.",
  ERR_PROPOSAL_BASE: "A proposal does not build on the state that this tool last accepted.",
  ERR_PROPOSAL_POLICY:
    "A proposal breaks a rule of the authority: a lifetime, a threshold, a key without that purpose.",
  ERR_PROPOSAL_TWICE: "This tool has signed another proposal for the same role and version, or has rejected this one.",
  ERR_LOG_UNSOUND: "The log holds an entry that the authority's rules do not allow. Keep a copy: this is evidence.",
  ERR_OWN_REQUEST: "Whoever asked for a proposal does not approve it as well. Another trustee has to.",
  ERR_PROPOSAL_CLOSED: "A proposal no longer takes signatures or rejections.",
  ERR_PROOF: "A Merkle proof does not lead to the expected root.",
  ERR_NOTE_UNSIGNED: "No known key signed the note.",
  ERR_NOTE_SIGNATURE: "A known key's signature on the note is wrong.",
  ERR_LOG_ORIGIN: "A checkpoint belongs to another log than the one expected.",
  ERR_WITNESS_QUORUM: "Fewer witnesses cosigned the checkpoint than the log policy demands.",
  ERR_WITNESS_SPLIT:
    "A witness has seen more of the log, or another log, than there is here. Stop signing and keep all files: the log has forked or was restored from a backup.",
  ERR_LOG_MISMATCH:
    "A tile or entry of the log is not the one its signed checkpoint commits to. Fetch it again, or from a mirror.",
  ERR_LOG_RULE: "An entry of the log stands where no entry of its kind may, or contradicts an earlier one.",
  ERR_LOG_EVIDENCE: "A published file is not the one that the log names. Fetch it again, or from a mirror.",
  ERR_LOG_SPLIT: "One log signed two checkpoints that contradict each other. Keep both: this is evidence.",
  ERR_STATUS_REPLAY:
    "A status statement does not state what the log makes at the size it names. Keep a copy: this is evidence.",
  ERR_TRUST_UNLOGGED:
    "A trust file is published, or in use, that the log does not hold. Keep a copy: this is evidence.",
  ERR_LOG_SIGNED: "A signed checkpoint does not state the size and root that the log computed. Stop and investigate.",
  ERR_UNAPPROVED: "A batch manifest is not under the head that the trustees signed.",
  ERR_TOKEN_MISMATCH: "Token bodies are not exactly those of the approved manifest. Nothing was signed.",
  ERR_TRANSCRIPT_REFUSED:
    "A transcript of a key ceremony does not hold: a key has not signed it, or its class is claimed wrongly.",
  ERR_SIGNER_KEY: "The trust files do not list this signer's key for this purpose and time.",
  ERR_SIGNER_ORDER: "The signer must be given, or must log, something else first. The message says what.",
  ERR_LOG_FORK:
    "Entries do not follow the log where the signer left it. Open the log again; if it persists, investigate.",
  ERR_LEAF_REFUSED: "The signer knows no reason for an entry in the log. Nothing was signed.",
  ERR_EVENT_LATE: "A status event arrived after the last time at which it could be logged. Sign a new one.",
  ERR_METADATA_REFUSED:
    "The signer does not sign this online metadata: version, expiry or contents are not as they must be.",
} as const;

/** The world failed: HSM, disk, reader, database, network. Thrown by shells only. */
export const OPERATION_CODES = {
  ERR_USAGE: "The command line is not understood. Run it with --help.",
  ERR_FILE: "A file or folder could not be read or written.",
  ERR_DISK_FULL:
    "There is too little free space on a disk of the vault for what was asked. Nothing was begun: make room, and ask again.",
  ERR_FILE_TOO_LARGE: "A file is larger than its format allows.",
  ERR_FILE_IMMUTABLE:
    "A published file that must never change exists with other bytes. Stop and compare with a mirror.",
  ERR_JOURNAL: "An append-only journal is damaged before its last record. Restore it from a copy; do not edit it.",
  ERR_MISSING: "Something this command needs is not installed on this machine.",
  ERR_KIT_SIZE: "A kit is larger than a station accepts. Approve smaller batches, or more stations per batch.",
  ERR_NO_PCSC: "NFC readers cannot be used: the nfc-pcsc package is missing or not built, or no PC/SC service runs.",
  ERR_NO_READER: "No NFC reader is plugged in, or it was unplugged. Plug it in and try again.",
  ERR_READER: "The reader failed or did not answer in time. What became of the last write is unknown until read back.",
  ERR_SIMULATOR: "The reader simulator refused a command or did not start.",
  ERR_SERIAL: "A serial or a tag is taken already, or is not in the kit. See via writer status.",
  ERR_TAG_TIMEOUT: "No tag was laid on the reader in time. Run the command again to go on.",
  ERR_TAG_GONE: "The tag left the reader before it was done. Put the same tag back: writing goes on where it stopped.",
  ERR_TAG_CHANGED: "Another tag lies on the reader than the one the work began with.",
  ERR_TAG_TYPE: "The tag is not an NTAG213, 215 or 216 formatted for NDEF.",
  ERR_TAG_FULL: "The message does not fit on this type of tag.",
  ERR_TAG_LOCKED: "The tag's pages are locked for ever. Use another tag.",
  ERR_TAG_PROTECTED: "The tag asks for a password. Use another tag.",
  ERR_TAG_FOREIGN: "The tag already holds another message. Use a blank tag, or allow overwriting.",
  ERR_TAG_UNREADABLE: "The tag's content is damaged. Use a blank tag, or allow overwriting.",
  ERR_TAG_WRITE: "The tag took a write but does not hold what was written. Use another tag.",
  ERR_TRUST_MISSING: "No usable trusted state is stored here. Refresh it while there is a network or a stick.",
  ERR_CLOCK: "The clock of this machine runs behind a time that a quorum has signed. Set it, and try again.",
  ERR_PORT: "The address or port to listen on cannot be used. Choose another with --port or --listen.",
  ERR_TIMEOUT: "What was waited for did not happen in time. Wait longer with --seconds.",
  ERR_VAULT: "The vault could not be reached, or refused what was sent to it. The message says why.",
  ERR_PASSPHRASE: "The passphrase is wrong, or none was given. Use a terminal or --passphrase-file.",
  ERR_HOME: "The home folder is missing, belongs to another tool, or is already initialised.",
  ERR_CONFIRMATION: "A question was not answered with yes, so nothing was done. Use a terminal, or --yes.",
  ERR_TOUR: "A step of the tour did not go as it should. The message names the command; run it alone to look closer.",
  ERR_LOCKED: "Another process is working in this home folder.",
  ERR_REPLAY: "The nonce of a signed request was spent before. Sign the request again.",
  ERR_NOT_FOUND: "There is no such event, batch, kit or file.",
  ERR_CLOSED: "What the request would change is no longer open, or not yet.",
  ERR_BACKLOG: "More is waiting to be worked on than the vault takes. Nothing was accepted: try again later.",
  ERR_BUSY: "Too many requests from one address. Wait a minute.",
  ERR_FETCH: "A file could not be fetched from a web server. Check the address and the network, then try again.",
  ERR_WITNESS: "A witness could not be reached, or did not cosign the checkpoint. The message says why.",
  ERR_WITNESS_STATE:
    "A witness's memory of what it cosigned is damaged or of another key. It must not cosign: see the runbook.",
  ERR_LOG_FILE: "The log's source lacks a file that its checkpoint promises.",
  ERR_LOG_STATE:
    "The log's lock, published files and staging folder disagree. Nothing was changed; the message says what to do.",
  ERR_LOG_FAILED: "An earlier append to the log failed half-way. Open the log again: that finishes or drops it.",
  ERR_AUDIT_STATE:
    "The audit's state folder is damaged or of another authority. Name another, or remove it to begin again.",
  ERR_DATABASE: "PostgreSQL could not be started or reached, or refused a statement.",
  ERR_TRANSCRIPT_FILE:
    "A transcript in private/transcripts/ is damaged or gone. Restore the file; until then none after it is logged.",
  ERR_HSM_MODULE: "The PKCS#11 module or its binding is missing or does not load. Install what the message names.",
  ERR_HSM_TOKEN: "The PKCS#11 module has no such token, or more than one. Name it by its serial.",
  ERR_HSM_PIN: "The token refused the PIN, or the PIN file is unusable. Nothing was tried twice; look before you do.",
  ERR_HSM_KEY: "A key in the token is missing, is another than expected, or could leave the token.",
  ERR_HSM_DEVICE: "The token or its module failed. Look at the device; then start again.",
  ERR_SIGNER: "The bounded signer could not be reached, did not answer, or failed. Look at its log.",
  ERR_SIGNER_BEHIND: "The signer's memory is older than what is published. Do not start it; follow the runbook.",
  ERR_SIGNER_STATE: "The signer's memory is damaged, of another authority, or could not be written.",
  ERR_SIGNER_CONFIG: "The signer's configuration file is malformed or incomplete.",
} as const;

export type FormatCode = keyof typeof FORMAT_CODES;
export type VerificationCode = keyof typeof VERIFICATION_CODES;
export type OperationCode = keyof typeof OPERATION_CODES;
export type ErrorCode = FormatCode | VerificationCode | OperationCode;

/** A no with a code. `instanceof CodedError` is how a shell tells a refusal from a bug. */
export class CodedError<Code extends string = ErrorCode> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

export class FormatError extends CodedError<FormatCode> {}

export class VerificationError extends CodedError<VerificationCode> {}

export class OperationError extends CodedError<OperationCode> {
  /** True when the same call may succeed later without anyone changing anything. */
  readonly retryable: boolean;

  constructor(code: OperationCode, message: string, options?: ErrorOptions & { readonly retryable?: boolean }) {
    super(code, message, options);
    this.retryable = options?.retryable ?? false;
  }
}
