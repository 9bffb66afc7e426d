/** Reads JSON objects that must have exactly the members named, as our TUF profile and the cards do. */
import { type FormatCode, FormatError, quote } from "@viafabric/schemas";
import type { Json, JsonObject } from "./canonical.ts";

export class JsonFields {
  readonly #object: JsonObject;
  readonly #what: string;
  readonly #code: FormatCode;

  /** @param required and `optional` are all the members there may be; anything else is refused */
  constructor(
    value: Json,
    what: string,
    required: readonly string[],
    optional: readonly string[] = [],
    code: FormatCode = "ERR_METADATA",
  ) {
    this.#object = asObject(value, what, code);
    this.#what = what;
    this.#code = code;
    for (const key of Object.keys(this.#object)) {
      if (!required.includes(key) && !optional.includes(key)) throw this.wrong(`has an unknown member ${quote(key)}`);
    }
    for (const key of required) if (!this.has(key)) throw this.wrong(`lacks ${quote(key)}`);
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#object, key);
  }

  value(key: string): Json {
    return this.#object[key]!;
  }

  text(key: string, lengthMax: number): string {
    const value = this.value(key);
    if (typeof value !== "string" || value.length > lengthMax) throw this.wrong(`: ${key} is no text of ${lengthMax}`);
    return value;
  }

  integer(key: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.value(key);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max)
      throw this.wrong(`: ${key} is no integer of at least ${min}`);
    return value;
  }

  array(key: string, lengthMax: number): readonly Json[] {
    const value = this.value(key);
    if (!Array.isArray(value) || value.length > lengthMax)
      throw this.wrong(`: ${key} is no list of up to ${lengthMax}`);
    return value;
  }

  /** The own members of an object, at most `countMax`. A map, because names from outside must not meet prototypes. */
  members(key: string, countMax: number): ReadonlyMap<string, Json> {
    const members = Object.entries(asObject(this.value(key), `${this.#what}: ${key}`, this.#code));
    if (members.length > countMax) throw this.wrong(`: ${key} has more than ${countMax} members`);
    return new Map(members);
  }

  wrong(reason: string): FormatError {
    return new FormatError(this.#code, `${this.#what} ${reason}`);
  }
}

function asObject(value: Json, what: string, code: FormatCode): JsonObject {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new FormatError(code, `${what} is not an object`);
  return value as JsonObject;
}
