/**
 * A client of a stream's chat, for browsers and Node 22 or newer. It stays
 * connected: it comes back after a cut, a restart or a deploy with growing pauses,
 * gets what it missed, sends again what was not acknowledged, and drops what comes
 * twice. Text is data: show it with textContent, never as HTML.
 *
 * @module
 */

/**
 * @typedef {{id?: number, type: string, [field: string]: any}} ChatEvent
 */

/**
 * @typedef {object} ChatOptions
 * @property {() => string | Promise<string>} address Gives the WebSocket's address for each connection, with a
 *   fresh ticket for a member: POST /api/ws-tickets answers with it.
 * @property {(event: ChatEvent) => void} [onEvent] Gets the events in order, each once.
 * @property {(gap: boolean) => void} [onConnect] Is told of each welcome; gap says that events may be missing before what follows.
 * @property {(reason: string) => void} [onEnd] Is told when the server says not to come back.
 * @property {number} [minPause] Milliseconds; 250 by default.
 * @property {number} [maxPause] Milliseconds; 10,000 by default.
 * @property {number} [since] The last event that an earlier client has seen.
 * @property {typeof WebSocket} [WebSocket] The class to connect with; the global one by default.
 */

/** A message that was not taken: code is the error event's, retryAfter in seconds. */
export class Refused extends Error {
  /** @param {{code: string, detail: string, retry_after?: number}} event */
  constructor(event) {
    super(`${event.code}: ${event.detail}`);
    this.name = 'Refused';
    this.code = event.code;
    this.retryAfter = event.retry_after ?? 0;
  }
}

/** The status of a connection that must not be opened again. */
const CLOSED_FOR_GOOD = 4003;

export class Chat {
  /** @type {Map<string, {text: string, resolve: () => void, reject: (reason: Error) => void}>} */
  #pending = new Map();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #open = false; // it was welcomed
  #began = false;
  #closed = false;
  #last = 0;
  #epoch = '';
  #pause;
  #wait = 0;

  /** @param {ChatOptions} options */
  constructor(options) {
    this.options = { minPause: 250, maxPause: 10_000, ...options };
    this.#pause = this.options.minPause;
    if (options.since) {
      this.#last = options.since;
      this.#began = true;
    }
    this.#connect();
  }

  /** The id of the last event that was seen. */
  get last() {
    return this.#last;
  }

  /**
   * Says something. The promise is kept once the chat has it, through as many
   * connections as that takes, and broken with a Refused when it does not take it.
   *
   * @param {string} text
   * @param {string} [nonce] Makes a message that is sent again the same one.
   * @returns {Promise<void>}
   */
  send(text, nonce = crypto.randomUUID()) {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new Error('the chat is closed'));
        return;
      }
      if (this.#pending.has(nonce)) {
        reject(new Error('a message with this nonce is under way'));
        return;
      }
      this.#pending.set(nonce, { text, resolve, reject });
      this.#write(nonce);
    });
  }

  /** Hangs up for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    for (const message of this.#pending.values()) message.reject(new Error('the chat is closed'));
    this.#pending.clear();
  }

  async #connect() {
    let address;
    try {
      address = new URL(await this.options.address());
    } catch {
      this.#again();
      return;
    }
    if (this.#closed) return;
    if (this.#began) {
      address.searchParams.set('since', String(this.#last));
      if (this.#epoch) address.searchParams.set('epoch', this.#epoch);
    }
    const Socket = this.options.WebSocket ?? WebSocket;
    const socket = new Socket(address.href, 'livestream.v1');
    this.#socket = socket;
    socket.onmessage = (/** @type {MessageEvent} */ message) => {
      for (const event of JSON.parse(message.data).events) this.#take(event);
    };
    socket.onclose = (/** @type {CloseEvent} */ closed) => {
      this.#open = false;
      if (this.#closed) return;
      if (closed.code === CLOSED_FOR_GOOD) {
        this.close();
        this.options.onEnd?.(closed.reason);
      } else {
        this.#again();
      }
    };
    socket.onerror = () => {}; // a close follows
  }

  #again() {
    if (this.#closed) return;
    let wait = this.#wait;
    if (wait === 0) {
      wait = this.#pause / 2 + (Math.random() * this.#pause) / 2;
      this.#pause = Math.min(2 * this.#pause, this.options.maxPause);
    }
    this.#wait = 0;
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  /** @param {ChatEvent} event */
  #take(event) {
    if (event.type === 'welcome') this.#welcome(event);
    if (event.type === 'bye') this.#wait = event.reconnect_after_ms;
    if (event.nonce && (event.type === 'message' || event.type === 'error')) this.#settle(event);
    if (event.id) {
      if (event.id <= this.#last) return; // it was seen
      this.#last = event.id;
    }
    this.options.onEvent?.(event);
  }

  /** @param {ChatEvent} event */
  #welcome(event) {
    const gap = this.#began && !event.recovered;
    if (!this.#began || !event.recovered) this.#last = event.resume_from;
    this.#epoch = event.epoch ?? '';
    this.#began = true;
    this.#open = true;
    this.#pause = this.options.minPause;
    for (const nonce of this.#pending.keys()) this.#write(nonce);
    this.options.onConnect?.(gap);
  }

  /** @param {ChatEvent} event */
  #settle(event) {
    const message = this.#pending.get(event.nonce);
    if (!message) return;
    if (event.type === 'error' && event.code === 'unavailable') {
      setTimeout(() => this.#write(event.nonce), 1000 * (event.retry_after ?? 1));
      return;
    }
    this.#pending.delete(event.nonce);
    if (event.type === 'error') message.reject(new Refused(/** @type {any} */ (event)));
    else message.resolve();
  }

  /** @param {string} nonce */
  #write(nonce) {
    const message = this.#pending.get(nonce);
    if (message && this.#open) this.#socket?.send(JSON.stringify({ type: 'message', text: message.text, nonce }));
  }
}
