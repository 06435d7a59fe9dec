// The page: who looks at which channel, what the server says, and what the user does.

import { actionMenus } from "./actions.js";
import { Refused, api, follow } from "./api.js";
import { showsPicture, textOf } from "./components.js";
import { Composer } from "./composer.js";
import { avatar, h, icon } from "./dom.js";
import { Interactions } from "./interactions.js";
import { plainText } from "./markdown.js";
import { nameOf } from "./messages.js";
import { drawChannels, drawMe, drawMembers } from "./sidebar.js";
import { Thread } from "./thread.js";
import { setLocale } from "./time.js";

const PAGE = 50;
const TYPING_MS = 10000;
const PUT_AWAY = "notice put away";

const $ = (id) => document.getElementById(id);

let state = null;
let userId = null;
let channelId = null;
let limit = PAGE;
let stop = () => {};
let loading = null; // events that arrive while a channel's messages are fetched
const unread = new Set();
const dismissed = new Set();
let typingTimer;

const user = (id) => (id === state.bot.id ? state.bot : state.users.find((entry) => entry.id === id));
const channels = () => [
  ...state.guilds.flatMap((guild) => guild.channels.map((channel) => ({ ...channel, guild }))),
  ...(state.groups ?? []),
];
// A server that says who sees a channel lists the users; without a list all do.
const canSee = (entry) => entry.visible_to?.includes(userId) ?? true;
const isDm = () => channelId === state.dms[userId];
const isGroup = () => Boolean(state.groups?.some((group) => group.id === channelId));
/** What decides which commands are offered here. */
const place = () => ({ ...user(userId), dm: isDm(), group: isGroup(), foreign: channel()?.guild?.installed === false });
const channel = () => channels().find((entry) => entry.id === channelId);
const placeName = () => (isDm() ? `@${state.bot.name}` : isGroup() ? channel().name : `#${channel().name}`);
const say = (sentence) => { $("announce").textContent = sentence; };

const view = {
  get state() { return state; },
  get userId() { return userId; },
  get channelId() { return channelId; },
  unread, user, isDm, canSee, go, place, channel,
  places: () => [
    { id: state.dms[userId], name: `@${state.bot.name}` },
    ...channels().filter(canSee).map(({ id, name, guild }) => ({ id, name: guild ? `#${name}` : name })),
  ],
  switchUser: (id) => go(id, isDm() ? state.dms[id] : channelId),
};

const context = {
  user,
  me: () => userId,
  userName: (id) => user(id)?.display_name ?? user(id)?.name,
  channelName: (id) => channels().find((entry) => entry.id === id)?.name,
  message: (id) => thread.find(id)?.message,
  isFollowUp: (message) => thread.isFollowUp(message),
  press: (...use) => interactions.press(...use),
  actions: (message, anchor) => menus.message(message, anchor),
  dismiss(message) {
    dismissed.add(message.id);
    thread.remove(message.id);
    $("text")?.focus();
  },
  jump(id) {
    const node = thread.find(id)?.node;
    if (!node) return say("That message is not loaded.");
    node.scrollIntoView({ block: "center", behavior: "smooth" });
    node.classList.remove("flash");
    requestAnimationFrame(() => node.classList.add("flash"));
    return undefined;
  },
};

const thread = new Thread(
  { scroller: $("scroller"), list: $("messages"), jump: $("jump") },
  context,
);

const composer = new Composer($("composer"), {
  state: () => state,
  user: () => user(userId),
  isDm,
  place,
  people: () => [...state.users, state.bot],
  places: channels,
  roles: () => channel()?.guild?.roles ?? [],
  nameOf: (message) => nameOf(message.author, context),
  complete: async (name, options, focused) =>
    (await api.autocomplete(userId, channelId, { name, options, focused })).choices ?? [],
  command: (name, options, files) => {
    thread.toBottom();
    return interactions.command(name, options, files);
  },
  async say(content, files, replyTo) {
    thread.toBottom();
    receive({ type: "message_create", message: await api.send(userId, channelId, content, files, replyTo) });
  },
});

const interactions = new Interactions({
  here: () => ({ user: userId, channel: channelId }),
  user, bot: () => state.bot, thread, rows: $("pending"),
  complain: (sentence) => composer.complain(sentence),
});

const menus = actionMenus(view, context, {
  run: (name, targetId) => interactions.command(name, {}, [], targetId),
  reply: (message) => composer.setReply(message),
  async forward(message, where) {
    receive({ type: "message_create", message: await api.forward(userId, where, message) });
  },
  attempt,
});

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    composer.complain(error.message);
  }
}

// What the server says.

function onMessage(message, isNew) {
  if (dismissed.has(message.id)) return;
  if (message.channel_id !== channelId) {
    if (isNew && message.author.id !== userId) {
      unread.add(message.channel_id);
      drawChannels($("channels"), view);
    }
    return;
  }
  const before = thread.find(message.id)?.message;
  const added = thread.put(message);
  if (message.author.id === state.bot.id) setTyping(null);
  const hasPicture = (m) => Boolean(m && (m.attachments?.length || m.embeds?.some((embed) => embed.image) || showsPicture(m)));
  if (added && message.author.id !== userId) {
    const [embed] = message.embeds ?? [];
    const words = textOf(message) || embed?.title || embed?.description || "";
    const text = message.thinking ? "is thinking" : plainText(words, context).slice(0, 200);
    say(`${nameOf(message.author, context)}: ${text || (hasPicture(message) ? "a picture" : "a message")}`);
  } else if (before && hasPicture(message) && !hasPicture(before)) {
    say(`${nameOf(message.author, context)} posted a picture`);
  }
}

function setTyping(person) {
  clearTimeout(typingTimer);
  $("typing").replaceChildren(
    ...(person ? [h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("b", null, person.display_name ?? person.name), " is typing…"] : []),
  );
  if (person) typingTimer = setTimeout(() => setTyping(null), TYPING_MS);
}

function receive(event) {
  if (loading && event.type.startsWith("message_")) return loading.push(event);
  if (event.type === "message_create") onMessage(event.message, true);
  else if (event.type === "message_update") onMessage(event.message, false);
  else if (event.type === "message_delete") thread.remove(event.message_id);
  else if (event.type === "interaction_answered") interactions.answered(event.interaction_id);
  else if (event.type === "interaction_failed") interactions.failed(event.interaction_id, event.sentence);
  else if (event.type === "modal") interactions.form(event);
  else if (event.type === "typing") {
    if (event.channel_id === channelId && event.user_id !== userId) setTyping(user(event.user_id) ?? state.bot);
  } else if (event.type === "state") attempt(refresh);
  return undefined;
}

// What is shown.

/** What the demo says of itself, until it is put away. */
function drawNotice() {
  const sentence = state.notices[user(userId).locale] ?? state.notices["en-US"];
  const hidden = !sentence || sessionStorage.getItem(PUT_AWAY) === "yes";
  $("notice").hidden = hidden;
  $("notice").replaceChildren(
    ...(hidden
      ? []
      : [
          h("p", null, sentence),
          h("button.icon-button", {
            type: "button",
            "aria-label": "Put this away",
            onclick: () => {
              sessionStorage.setItem(PUT_AWAY, "yes");
              drawNotice();
              $("text")?.focus();
            },
          }, icon("close")),
        ]),
  );
}

function drawHead() {
  const here = channel();
  const dm = isDm();
  $("channel-name").replaceChildren(icon(dm ? "at" : isGroup() ? "people" : "hash"), dm ? state.bot.name : here.name);
  $("channel-topic").textContent = dm ? "Write what you want to see" : (here.topic ?? "");
  $("guild-name").textContent = here?.guild?.name ?? state.guilds[0]?.name ?? "Sandbox";
  $("bot-state").replaceChildren(h("span.dot", { dataset: { online: state.bot.online } }), `${state.bot.name} is ${state.bot.online ? "online" : "offline"}`);
  document.title = `${placeName()} · Sandbox`;
  $("welcome").replaceChildren(
    dm ? avatar(state.bot, "huge") : h("div.big-hash", null, icon("hash")),
    h("h2", null, dm ? state.bot.name : `Welcome to ${placeName()}`),
    h(
      "p",
      null,
      dm
        ? "Every message you write here is a prompt. Type / for all commands."
        : "This is where the channel begins. Type / to see what the bot can do.",
    ),
    h("button.text-button", { id: "earlier", type: "button", onclick: () => attempt(earlier) }, "Load earlier messages"),
  );
}

function draw() {
  drawChannels($("channels"), view);
  drawMe($("me"), view);
  drawMembers($("members"), view, menus.person);
  drawHead();
  drawNotice();
  composer.suggest(state.bot.online);
}

async function load() {
  const [asUser, where] = [userId, channelId];
  const buffer = [];
  loading = buffer;
  try {
    const messages = await api.messages(asUser, where, limit);
    if (asUser !== userId || where !== channelId) return;
    interactions.clear();
    thread.fill(messages.filter((message) => !dismissed.has(message.id)));
    $("earlier").hidden = messages.length < limit;
    $("welcome").classList.toggle("more", messages.length >= limit);
  } finally {
    if (loading === buffer) loading = null;
  }
  buffer.forEach(receive);
}

async function earlier() {
  limit *= 2;
  const messages = await api.messages(userId, channelId, limit);
  thread.prepend(messages.filter((message) => !dismissed.has(message.id)));
  $("earlier").hidden = messages.length < limit;
}

async function fetchState() {
  const fresh = await api.state();
  fresh.bot.bot = true;
  return fresh;
}

async function refresh() {
  const fresh = await fetchState();
  const commandsChanged = JSON.stringify(fresh.commands) !== JSON.stringify(state.commands);
  state = fresh;
  if (!user(userId) || !(channel() || isDm())) return go(userId, channelId);
  draw();
  if (commandsChanged && !composer.command) composer.input();
  return undefined;
}

function banner(sentence) {
  $("banner").textContent = sentence ?? "";
  $("banner").hidden = !sentence;
}

function listen() {
  stop();
  const asUser = userId;
  let lost = false;
  stop = follow(asUser, {
    onEvent: receive,
    onOpen() {
      banner(null);
      if (lost) attempt(async () => { await refresh(); await load(); });
      lost = false;
    },
    onLost() {
      lost = true;
      banner("Connection lost. Reconnecting…");
    },
  });
}

/** Show a channel through a user's eyes; both fall back to something that exists. */
async function go(wantedUser, wantedChannel) {
  const before = userId;
  userId = user(wantedUser) && wantedUser !== state.bot.id ? wantedUser : state.users[0].id;
  const places = [...channels().filter(canSee).map((entry) => entry.id), state.dms[userId]];
  channelId = places.includes(wantedChannel) ? wantedChannel : places[0];
  limit = PAGE;
  unread.delete(channelId);
  interactions.clear();
  if (before !== userId) unread.clear();
  history.replaceState(null, "", `#/${userId}/${channelId}`);
  setLocale(user(userId).locale);
  setTyping(null);
  drawer(false);
  draw();
  composer.reset(`Message ${placeName()}`);
  if (before !== userId) listen();
  await attempt(load);
  if (!matchMedia("(pointer: coarse)").matches) $("text")?.focus();
}

function drawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu-button").setAttribute("aria-expanded", String(open));
  if (open) $("channels").querySelector("[aria-current]")?.focus();
}

function dropping() {
  let depth = 0;
  const show = (on) => { $("drop").hidden = !on; };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) show((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) show((depth -= 1) > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show(false);
    if (event.dataTransfer.files.length) composer.takeFiles([...event.dataTransfer.files]);
  });
}

async function start() {
  $("menu-button").append(icon("menu"));
  $("menu-button").onclick = () => drawer(!document.body.classList.contains("drawer"));
  $("scrim").onclick = () => drawer(false);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") drawer(false);
  });
  addEventListener("hashchange", () => {
    const [, wantedUser, wantedChannel] = location.hash.split("/");
    if (wantedUser !== userId || wantedChannel !== channelId) go(wantedUser, wantedChannel);
  });
  dropping();
  for (;;) {
    try {
      state = await fetchState();
      break;
    } catch (error) {
      banner(error instanceof Refused ? error.message : "The sandbox can't be reached.");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  banner(null);
  const [, wantedUser, wantedChannel] = location.hash.split("/");
  await go(wantedUser, wantedChannel);
}

start();
