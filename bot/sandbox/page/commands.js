// Slash commands as data: flattening, who sees what, parsing typed text, checking values.

export const TYPE = {
  SUBCOMMAND: 1, GROUP: 2, STRING: 3, INTEGER: 4, BOOLEAN: 5, USER: 6, CHANNEL: 7, ROLE: 8,
  MENTIONABLE: 9, NUMBER: 10, ATTACHMENT: 11,
};
const CHAT = 1;
const IN_GUILD = 0;
const IN_BOT_DM = 1;
const IN_GROUP = 2;
const USER_INSTALL = 1;

/** Return a thing's name or description in the user's language. */
export const localized = (thing, key, locale) => thing[`${key}_localizations`]?.[locale] ?? thing[key] ?? "";

/** Say whether a user may see a command here; where the bot is not, only one's own installation. */
export function visible(command, { admin, dm, group, foreign, installed }) {
  const contexts = command.contexts ?? (command.dm_permission === false ? [IN_GUILD] : null);
  const here = group ? IN_GROUP : dm ? IN_BOT_DM : IN_GUILD;
  if (contexts && !contexts.includes(here)) return false;
  if (group || foreign) return Boolean(installed && command.integration_types?.includes(USER_INSTALL));
  const needed = command.default_member_permissions;
  return dm || admin || needed === null || needed === undefined;
}

/** Return what can be typed: one entry a command or subcommand, `path` as in "admin queue". */
export function flatten(commands, locale) {
  const leaves = [];
  const walk = (item, parents) => {
    const path = [...parents, item];
    const children = (item.options ?? []).filter((o) => [TYPE.SUBCOMMAND, TYPE.GROUP].includes(o.type));
    if (children.length) return children.forEach((child) => walk(child, path));
    return leaves.push({
      path: path.map((part) => part.name).join(" "),
      label: path.map((part) => localized(part, "name", locale)).join(" "),
      description: localized(item, "description", locale),
      options: (item.options ?? []).map((option) => ({
        ...option,
        label: localized(option, "name", locale),
        about: localized(option, "description", locale),
      })),
    });
  };
  for (const command of commands) if ((command.type ?? CHAT) === CHAT) walk(command, []);
  return leaves;
}

/** Return the commands that fit what was typed after the slash, best first. */
export function matching(leaves, typed) {
  const wanted = typed.toLowerCase();
  const rank = (leaf) => {
    const names = [leaf.path.toLowerCase(), leaf.label.toLowerCase()];
    if (names.some((name) => name.startsWith(wanted))) return 0;
    if (names.some((name) => name.includes(wanted))) return 1;
    return leaf.description.toLowerCase().includes(wanted) ? 2 : 3;
  };
  return leaves
    .map((leaf, at) => [rank(leaf), at, leaf])
    .filter(([score]) => score < (wanted.length < 3 ? 2 : 3))
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map(([, , leaf]) => leaf);
}

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Find `name:` of options in a text; returns [{option, start, end}] in order. */
export function marks(text, options) {
  if (!options.length) return [];
  const names = options.flatMap((option) => [option.name, option.label]);
  const pattern = new RegExp(`(^|\\s)(${names.map(escape).sort((a, b) => b.length - a.length).join("|")})[:：]\\s?`, "gi");
  const seen = new Set();
  const found = [];
  for (const match of text.matchAll(pattern)) {
    const name = match[2].toLowerCase();
    const option = options.find((o) => o.name.toLowerCase() === name || o.label.toLowerCase() === name);
    if (seen.has(option)) continue;
    seen.add(option);
    found.push({ option, start: match.index, end: match.index + match[0].length });
  }
  return found;
}

/** The option that text without a name goes into: the only required one. */
export function mainOption(leaf) {
  const required = leaf.options.filter((option) => option.required);
  if (required.length > 1) return null;
  return required[0] ?? leaf.options.find((option) => option.type === TYPE.STRING) ?? null;
}

/**
 * Read "/imagine prompt: a lighthouse aspect: 1:1" or "/imagine a lighthouse".
 *
 * Returns {leaf, values: {name: text}, complete} or null where no command is named; `complete`
 * says that something follows the command's name.
 */
export function parse(text, leaves) {
  if (!text.startsWith("/")) return null;
  const body = text.slice(1);
  const named = leaves
    .flatMap((leaf) => [[leaf.path, leaf], [leaf.label, leaf]])
    .filter(([name]) => {
      const head = body.slice(0, name.length);
      return head.toLowerCase() === name.toLowerCase() && /^(\s|$)/.test(body.slice(name.length));
    })
    .sort((a, b) => b[0].length - a[0].length)[0];
  if (!named) return null;
  const [name, leaf] = named;
  const rest = body.slice(name.length).trim();
  const found = marks(rest, leaf.options);
  const values = {};
  const free = rest.slice(0, found[0]?.start ?? rest.length).trim();
  found.forEach(({ option, end }, at) => {
    values[option.name] = rest.slice(end, found[at + 1]?.start ?? rest.length).trim();
  });
  const main = mainOption(leaf);
  if (free && main && !(main.name in values)) values[main.name] = free;
  return { leaf, values, complete: body.length > name.length };
}

const BOOLEANS = { true: true, yes: true, on: true, false: false, no: false, off: false };

function number(option, text) {
  const whole = option.type === TYPE.INTEGER;
  const value = Number(text.replace(/[\s_]/g, ""));
  if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value))) {
    throw new Error(whole ? "Give a whole number." : "Give a number.");
  }
  const { min_value: least, max_value: most } = option;
  if (least !== undefined && value < least) throw new Error(`At least ${least}.`);
  if (most !== undefined && value > most) throw new Error(`At most ${most}.`);
  return value;
}

/** Turn an option's text into the value that is sent; throws an Error with a short sentence. */
export function valueOf(option, text, choices = option.choices) {
  if (choices?.length) {
    const wanted = text.trim().toLowerCase();
    const choice = choices.find((c) => [c.name, c.label ?? c.name, String(c.value)].some((n) => n.toLowerCase() === wanted));
    if (choice) return choice.value;
    if (!option.autocomplete) throw new Error("Choose one from the list.");
  }
  if ([TYPE.INTEGER, TYPE.NUMBER].includes(option.type)) return number(option, text);
  if (option.type === TYPE.BOOLEAN) {
    const value = BOOLEANS[text.trim().toLowerCase()];
    if (value === undefined) throw new Error("True or False.");
    return value;
  }
  if (option.type === TYPE.STRING) {
    if (text.length < (option.min_length ?? 0)) throw new Error(`At least ${option.min_length} characters.`);
    const most = option.max_length ?? 6000;
    if (text.length > most) throw new Error(`At most ${most} characters (now ${text.length}).`);
  }
  return text;
}
