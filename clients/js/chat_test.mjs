// What the project's tests drive: it reads commands from its standard input and
// writes what the client tells to its standard output.
import { createInterface } from 'node:readline';
import { Chat } from './chat.js';

const chat = new Chat({
  address: async () => (await fetch(process.argv[2])).text(),
  onConnect: (gap) => console.log('connected', gap),
  onEvent: (event) => event.type === 'message' && console.log('event', event.text),
  onEnd: (reason) => console.log('ended', reason),
  minPause: 50,
});

for await (const line of createInterface({ input: process.stdin })) {
  const text = line.slice('say '.length);
  chat.send(text).then(
    () => console.log('taken', text),
    (refused) => console.log('refused', refused.code),
  );
}
chat.close();
