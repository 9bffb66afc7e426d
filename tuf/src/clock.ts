/**
 * The clock floor: a time that is proven to have passed, and that a clock may not run behind.
 *
 * An attacker who sets a clock back makes expired metadata live again; a flat battery does the same. So the newest time
 * that a quorum has signed is kept, and what expires is judged by it when the clock says less. It never moves back. One
 * online key must not move it either: a thief could push it years ahead, and every node would refuse everything. And
 * even a quorum that mistypes a year moves it only one day past a clock that was right so far.
 */
import path from "node:path";
import { ensureFolder, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import { CodedError, OperationError, parseDecimal, parseUtf8, utf8 } from "@viafabric/schemas";

/** 2026-01-01: no authority of ours is older, so a clock before it has lost its battery. */
export const CLOCK_FLOOR_MIN = Date.UTC(2026, 0, 1) / 1000;
const AHEAD_SECONDS_MAX = 86_400;
const FILE_BYTES_MAX = 32;

/** @param signed a quorum-signed or witness-quorum time. @param rtc what the clock says. All unix seconds. Pure. */
export function nextClockFloor(floor: number, signed: number, rtc: number): number {
  // A clock behind the floor is wrong, and no measure of what is too far ahead.
  if (rtc < floor) return floor;
  return Math.max(floor, Math.min(signed, rtc + AHEAD_SECONDS_MAX));
}

/** A missing or damaged file is the least floor: the next refresh raises it again. */
export async function loadClockFloor(folder: string): Promise<number> {
  const bytes = await readFileIfPresent(clockFile(folder), FILE_BYTES_MAX);
  try {
    return Math.max(CLOCK_FLOOR_MIN, bytes ? parseDecimal(parseUtf8(bytes).trimEnd()) : 0);
  } catch (error) {
    if (error instanceof CodedError) return CLOCK_FLOOR_MIN;
    throw error;
  }
}

/** Durable when it has risen. @returns the floor from now on */
export async function raiseClockFloor(folder: string, signed: number, rtc: number): Promise<number> {
  const floor = await loadClockFloor(folder);
  const next = nextClockFloor(floor, signed, rtc);
  if (next > floor) {
    await ensureFolder(folder);
    await writeFileDurable(clockFile(folder), utf8(`${next}\n`));
  }
  return next;
}

/** For people's tools, which can ask their user to set the clock. @throws OperationError ERR_CLOCK */
export async function assertClock(folder: string, rtc: number): Promise<void> {
  const floor = await loadClockFloor(folder);
  if (rtc >= floor) return;
  const [says, passed] = [rtc, floor].map((seconds) => new Date(seconds * 1000).toISOString());
  throw new OperationError("ERR_CLOCK", `the clock says ${says}, but ${passed} has passed`);
}

function clockFile(folder: string): string {
  return path.join(folder, "clock");
}
