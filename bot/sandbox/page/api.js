// The sandbox's HTTP and WebSocket door, seen from a user.

/** A refusal by the server; its message is a sentence for the user. */
export class Refused extends Error {}

async function call(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refused("The sandbox can't be reached. Is it still running?");
  }
  const body = await reply.json().catch(() => null);
  if (!reply.ok) throw new Refused(body?.message ?? `The sandbox answered ${reply.status}.`);
  return body;
}

function post(path, body, files = []) {
  if (!files.length) {
    return call(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  }
  const form = new FormData();
  form.append("payload_json", JSON.stringify(body));
  files.forEach((file, index) => form.append(`files[${index}]`, file, file.name));
  return call(path, { method: "POST", body: form });
}

const place = (user, channel) => `/user/${user}/channels/${channel}`;

export const api = {
  state: () => call("/user/state"),
  messages: (user, channel, limit) => call(`${place(user, channel)}/messages?limit=${limit}`),
  send: (user, channel, content, files, replyTo) =>
    post(
      `${place(user, channel)}/messages`,
      { content, ...(replyTo && { message_reference: { message_id: replyTo.id } }) },
      files,
    ),
  forward: (user, channel, message) =>
    post(`${place(user, channel)}/messages`, {
      message_reference: { type: 1, message_id: message.id, channel_id: message.channel_id },
    }),
  command: (user, channel, body, files) => post(`${place(user, channel)}/commands`, body, files),
  autocomplete: (user, channel, body) => post(`${place(user, channel)}/autocomplete`, body),
  press: (user, message, body) => post(`/user/${user}/messages/${message}/components`, body),
  submit: (user, interaction, components, files) =>
    post(`/user/${user}/modals/${interaction}`, { components }, files),
};

const FIRST_WAIT = 400;
const LONGEST_WAIT = 8000;

/** Follow a user's events, reconnecting for ever; returns a function that stops. */
export function follow(user, { onEvent, onOpen, onLost }) {
  let socket;
  let timer;
  let wait = FIRST_WAIT;
  let stopped = false;

  function connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/user/${user}/events`);
    socket.onopen = () => {
      wait = FIRST_WAIT;
      onOpen();
    };
    socket.onmessage = (event) => onEvent(JSON.parse(event.data));
    socket.onclose = () => {
      if (stopped) return;
      onLost();
      timer = setTimeout(connect, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  }

  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket.onmessage = null;
    socket.close();
  };
}
