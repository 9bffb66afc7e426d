/**
 * Going on after a fault: recover by its class, wait longer each time, and give up before it becomes a siege.
 *
 * Ed25519 is deterministic, so to sign the same bytes again is to sign them once. When a device fails time after time
 * the breaker opens: for a while everybody is refused at once, and then one try decides.
 */
import { type Fault, faultOf, HsmError, hsmError } from "./ckr.ts";
import type { Device, Era } from "./device.ts";

/** Failures in a row without one signature in between. With the waiting in between they take about four seconds. */
const ATTEMPTS_MAX = 10;
const WAIT_MILLISECONDS = 10;
const WAIT_MILLISECONDS_MAX = 2000;
const OPEN_MILLISECONDS = 10_000;

/** What happened, for whoever keeps a log. */
export interface Recovery {
  /** Of the last failure, when there were several in a row. */
  readonly fault: Fault;
  readonly failures: number;
  /** From the first failure to the next result. */
  readonly milliseconds: number;
}

/** Milliseconds to wait before trying again after `failures` in a row. @param random in [0, 1) */
export function waitAfter(failures: number, random: number): number {
  // Most sessions that are lost can be had again at once. Later, those who wait must not all come back together.
  if (failures < 2) return 0;
  return Math.min(WAIT_MILLISECONDS_MAX, WAIT_MILLISECONDS * 2 ** (failures - 2)) * (0.5 + random / 2);
}

/** Times are milliseconds of a clock that never goes back. */
export class Breaker {
  #openUntil: number | undefined;

  /** How many failures in a row a call may see. @throws HsmError ERR_HSM_DEVICE while it is open */
  attempts(now: number): number {
    if (this.#openUntil === undefined) return ATTEMPTS_MAX;
    if (now < this.#openUntil) {
      const seconds = Math.ceil((this.#openUntil - now) / 1000);
      const message = `the token failed ${ATTEMPTS_MAX} times in a row; it is left alone for ${seconds} s more`;
      throw new HsmError("ERR_HSM_DEVICE", message, { fault: "device" });
    }
    return 1;
  }

  opened(now: number): void {
    this.#openUntil = now + OPEN_MILLISECONDS;
  }

  closed(): void {
    this.#openUntil = undefined;
  }
}

export class Persistence {
  readonly #device: Device;
  readonly #breaker = new Breaker();
  readonly #observe: (recovery: Recovery) => void;

  constructor(device: Device, observe: (recovery: Recovery) => void) {
    this.#device = device;
    this.#observe = observe;
  }

  /**
   * Runs `work` until it returns.
   * @param work throws a fault to be run again; it calls `progress` when it has something that will not be lost
   */
  async run<T>(work: (era: Era, progress: () => void) => T | Promise<T>): Promise<T> {
    let failures = 0;
    let fault: Fault = "session";
    let since = 0;
    const progress = () => {
      if (failures > 0) this.#observe({ fault, failures, milliseconds: performance.now() - since });
      failures = 0;
      this.#breaker.closed();
    };
    for (;;) {
      const attempts = this.#breaker.attempts(performance.now());
      let seen: Era | undefined;
      try {
        const result = await this.#device.use((era) => {
          seen = era;
          return work(era, progress);
        });
        progress();
        return result;
      } catch (error) {
        fault = faultOf(error);
        if (fault === "final") throw hsmError("sign", error);
        if (failures === 0) since = performance.now();
        failures++;
        if (failures >= attempts) {
          this.#breaker.opened(performance.now());
          throw hsmError("sign", error);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, waitAfter(failures, Math.random())));
      await this.#recover(fault, seen);
    }
  }

  async #recover(fault: Fault, seen: Era | undefined): Promise<void> {
    try {
      await this.#device.recover(fault, seen);
    } catch (error) {
      if (faultOf(error) === "final") throw hsmError("recover the token", error);
      // The next try finds the device broken, counts, and comes back here.
    }
  }
}
