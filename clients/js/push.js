/**
 * Has this browser told of a member's notifications, also while no page is open. The
 * site's service worker shows them; at the least it is
 *
 *   self.addEventListener('push', (event) => {
 *     const notification = event.data.json(); // {id, type, created_at, data} as in GET /api/notifications
 *     event.waitUntil(self.registration.showNotification(title(notification), { tag: notification.id, data: notification }));
 *   });
 *
 * The tag makes a notification that comes twice show once. Titles and names are data:
 * showNotification takes text.
 *
 * @module
 */

/**
 * @typedef {object} PushOptions
 * @property {(path: string, init?: RequestInit) => Promise<Response>} fetch Asks the API as the member, token included.
 * @property {ServiceWorkerRegistration} registration Of the site's service worker: await navigator.serviceWorker.ready.
 */

/**
 * Subscribes, or makes sure that it still is; call it in answer to a click, and again
 * after each login: a subscription lasts as long as the login that it was made with.
 * Gives the subscription's id, which unsubscribe takes.
 *
 * @param {PushOptions} options
 * @returns {Promise<string>}
 */
export async function subscribe({ fetch, registration }) {
  const { public_key: key } = await answer(fetch('/api/push-key'));
  let subscription = await registration.pushManager.getSubscription();
  if (subscription && toBase64(subscription.options.applicationServerKey) !== key) {
    await subscription.unsubscribe(); // the server's key was replaced
    subscription = null;
  }
  subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  const { id } = await answer(fetch('/api/push-subscriptions', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(subscription),
  }));
  return id;
}

/**
 * Ends it. After a logout nothing comes anyway; call it before one all the same where
 * the browser is to forget that it was subscribed.
 *
 * @param {PushOptions} options
 * @param {string} id
 */
export async function unsubscribe({ fetch, registration }, id) {
  const subscription = await registration.pushManager.getSubscription();
  await subscription?.unsubscribe();
  const response = await fetch(`/api/push-subscriptions/${id}`, { method: 'DELETE' });
  if (!response.ok && response.status !== 404) throw new Error(`unsubscribe: ${response.status}`);
}

/** @param {Promise<Response>} request */
async function answer(request) {
  const response = await request;
  const content = await response.json();
  if (!response.ok) throw new Error(`${content.code}: ${content.detail}`);
  return content;
}

/** @param {ArrayBuffer | null} key */
function toBase64(key) {
  if (!key) return '';
  return btoa(String.fromCharCode(...new Uint8Array(key))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
