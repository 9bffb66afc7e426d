/**
 * One token of a module, kept usable: the module started, an anchor session, the login.
 *
 * Sessions belong to their users; what they all share is here. When it is lost it is made again once, whoever noticed
 * first, while nobody is inside the module: to finalise it under a running call ends in a crash.
 */
import { CKR_CRYPTOKI_ALREADY_INITIALIZED, ckrOf, type Fault, HsmError, hsmError } from "./ckr.ts";
import { Gate } from "./gate.ts";
import { attempt, CK, findToken, type Handle, LoginThread, type Module, openModule, type TokenName } from "./pkcs11.ts";

export interface DeviceOptions extends TokenName {
  /** Path of the PKCS#11 module. */
  readonly module: string;
  /** A file readable by its owner only, or, where a person sits in front of it, what they typed. */
  readonly pinFile?: string;
  readonly pin?: string;
}

/** What a session was opened in. It is dead in any other. */
export interface Era {
  readonly slot: Handle;
  /** Goes up when the module starts again: handles of an earlier start may name somebody else's session now. */
  readonly start: number;
  /** Goes up with each login: with the one before, handles of private keys are gone. */
  readonly login: number;
}

export class Device {
  readonly module: Module;
  readonly label: string;
  readonly serial: string;
  readonly #options: DeviceOptions;
  readonly #gate = new Gate();
  #era: Era;
  #anchor: Handle | undefined;
  /** Started ahead, and only while `#ready`. */
  readonly #nextLogins: LoginThread[] = [];
  #ready = false;
  /** The module could not be started again. */
  #broken = false;
  /** The token refused the PIN: nothing here asks it again. */
  #refused: unknown;

  private constructor(module: Module, options: DeviceOptions) {
    this.module = module;
    this.#options = options;
    const { slot, label, serial } = findToken(module, options);
    this.label = label;
    this.serial = serial;
    this.#era = { slot, start: 1, login: 0 };
  }

  /** @throws OperationError ERR_HSM_MODULE, ERR_HSM_TOKEN, ERR_HSM_PIN, ERR_HSM_DEVICE */
  static async open(options: DeviceOptions): Promise<Device> {
    const module = await openModule(options.module);
    try {
      const device = new Device(module, options);
      await device.#login();
      return device;
    } catch (error) {
      module.release();
      throw error;
    }
  }

  /** Runs calls into the module. They see one era. */
  use<T>(work: (era: Era) => T | Promise<T>): Promise<T> {
    return this.#gate.pass(() => {
      if (this.#refused) throw this.#refused;
      if (this.#broken) throw new HsmError("ERR_HSM_DEVICE", "the module could not be started again", BROKEN);
      return work(this.#era);
    });
  }

  /**
   * Does what may help against a fault, unless somebody else has done it since.
   * @param seen the era in which it was met; undefined when it was met before any
   */
  async recover(fault: Fault, seen: Era | undefined): Promise<void> {
    if (fault === "session" || fault === "final") return;
    await this.#gate.alone(async () => {
      if (this.#refused) throw this.#refused;
      if (this.#broken || (fault === "device" && seen?.start === this.#era.start)) return this.#restart();
      if (seen === this.#era) return this.#login();
    });
  }

  /** From now on a login that is lost shall be had again at once: for a token that many signatures are asked of. */
  keepReady(): void {
    this.#ready = true;
    while (this.#nextLogins.length < LOGINS_AHEAD) this.#nextLogins.push(new LoginThread(this.module));
  }

  /** Waits for calls under way. */
  close(): Promise<void> {
    return this.#gate.alone(async () => {
      await Promise.all(this.#nextLogins.map((thread) => thread.end()));
      this.#refused ??= new HsmError("ERR_HSM_DEVICE", "the token was closed", { fault: "final" });
      if (!this.#broken && this.#anchor) this.#closeAnchor(this.#anchor);
      this.module.release();
    });
  }

  /** When a process's last session closes, its login is gone: this one stays open. */
  async #login(): Promise<void> {
    const { library } = this.module;
    const { slot } = this.#era;
    if (this.#anchor) this.#closeAnchor(this.#anchor);
    this.#anchor = undefined;
    this.#anchor = attempt("open a session", () => library.C_OpenSession(slot, CK.CKF_SERIAL_SESSION));
    try {
      const thread = this.#nextLogins.shift() ?? new LoginThread(this.module);
      await thread.login(slot, this.#options);
    } catch (error) {
      if (error instanceof HsmError && error.fault !== "final") throw error;
      this.#refused = error;
      throw error;
    }
    this.#era = { ...this.#era, login: this.#era.login + 1 };
    if (this.#ready) this.keepReady();
  }

  async #restart(): Promise<void> {
    const { library } = this.module;
    this.#broken = true;
    this.#anchor = undefined;
    this.#era = { ...this.#era, start: this.#era.start + 1 };
    try {
      library.C_Finalize();
    } catch {
      // A dead device may not even end properly. What counts is whether it starts.
    }
    try {
      library.C_Initialize({ flags: CK.CKF_OS_LOCKING_OK });
    } catch (error) {
      if (ckrOf(error) !== CKR_CRYPTOKI_ALREADY_INITIALIZED) throw hsmError("start the module again", error);
    }
    this.#era = { ...this.#era, slot: findToken(this.module, this.#options).slot };
    await this.#login();
    this.#broken = false;
  }

  #closeAnchor(anchor: Handle): void {
    try {
      this.module.library.C_CloseSession(anchor);
    } catch {
      // Lost already.
    }
  }
}

/** A device that fails fails again soon, before another thread has started. */
const LOGINS_AHEAD = 2;

const BROKEN = { fault: "device" } as const;
