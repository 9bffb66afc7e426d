/** JSON Schema (2020-12) of the values that several routes take or give. */

export const HEX_32 = { type: "string", pattern: "^[0-9a-f]{64}$" } as const;
export const HEX_16 = { type: "string", pattern: "^[0-9a-f]{32}$" } as const;
export const SECONDS = { type: "integer", minimum: 0 } as const;
export const WHOLE = { type: "integer", minimum: 0 } as const;

export function base64(lengthMax: number) {
  return { type: "string", maxLength: Math.ceil(lengthMax / 3) * 4, contentEncoding: "base64" } as const;
}

export function hex(lengthMax: number) {
  return { type: "string", pattern: "^(?:[0-9a-f]{2})+$", maxLength: lengthMax * 2 } as const;
}

export function object<Properties extends Record<string, unknown>>(properties: Properties, optional: string[] = []) {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: "object", properties, required, additionalProperties: false } as const;
}

export function list(items: unknown, maxItems: number, minItems = 0) {
  return { type: "array", items, maxItems, minItems } as const;
}

export function text(maxLength: number) {
  return { type: "string", maxLength } as const;
}

export const PROBLEM = object({
  type: { type: "string" },
  title: { type: "string" },
  status: WHOLE,
  detail: { type: "string" },
  code: { type: "string" },
});

/** Responses of a route: its result, and problem details for everything else. */
export function responses(result: unknown, status = 200) {
  return { [status]: result, "4xx": PROBLEM, "5xx": PROBLEM };
}

export interface Paths {
  readonly id: string;
}
