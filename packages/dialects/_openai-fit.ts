/**
 * From OpenAI's words to a model's own parameters. What the model declares is the model's, whatever OpenAI means by it; of the rest, some words
 * say how the answer travels, some have another name at the model, and what nothing can be made of is refused by name. Words that OpenAI
 * does not know are let through: they are the model's (protocols/lumenfall.md, section 4, "anything else").
 */
import {
  type ExactJson,
  isJsonObject,
  type JsonObject,
  type JsonText,
  type JsonValue,
  type Model,
  membersOf,
  type Problem,
  toJsonText,
} from '@claimcheck/core';
import { documentOf } from './_openai-requests.ts';
import { refusal } from './_refusal.ts';

/** A body on its way to become a model's parameters. */
export interface Draft {
  readonly model: Model;
  readonly properties: JsonObject;
  readonly members: Map<string, JsonText>;
  readonly problems: Problem[];
}

/** Sees to one member that is there and not null, and that the model does not declare. */
export type Rule = (draft: Draft, name: string, value: JsonValue) => void;

export interface Vocabulary {
  /** The dialect's, even where a model declares them: without them its own promises could not be kept. */
  readonly always?: readonly string[];
  /** In the order in which they are applied. */
  readonly rules: Readonly<Record<string, Rule>>;
  /** Files: they have many names and shapes, also where the model declares them. By the member's name, the names that models have for it. */
  readonly files?: Readonly<Record<string, readonly string[]>>;
}

export function fitter({ always = [], rules, files = {} }: Vocabulary): (parameters: ExactJson, model: Model) => ExactJson {
  return (parameters, model) => {
    const properties = isJsonObject(model.parameters.properties) ? model.parameters.properties : {};
    const draft: Draft = { model, properties, members: membersOf(parameters.text), problems: [] };
    for (const name of ['stream', 'idempotency_key', ...always]) draft.members.delete(name);
    dropAutomatic(draft);
    for (const [name, targets] of Object.entries(files)) fitFiles(draft, name, targets);
    for (const [name, rule] of Object.entries(rules)) {
      const text = draft.members.get(name);
      if (text === undefined || Object.hasOwn(properties, name)) continue;
      const value: JsonValue = JSON.parse(text);
      // Clients say null for what they leave out.
      if (value === null) draft.members.delete(name);
      else rule(draft, name, value);
    }
    spellFormat(draft);
    spellSize(draft);
    if (draft.problems.length > 0) throw refusal(draft.problems);
    return documentOf(draft.members);
  };
}

/** How the answer travels, or what is told about the user: nothing of it is for the model. */
export const own: Rule = ({ members }, name) => {
  members.delete(name);
};

/** One of these values, which the dialect sees to. */
export function oneOf(...values: readonly JsonValue[]): Rule {
  return (draft, name, value) => {
    draft.members.delete(name);
    if (!values.includes(value)) refuse(draft, name, `must be ${values.map((known) => JSON.stringify(known)).join(' or ')}`);
  };
}

/** Something that no model can be told, and that changes the result. `isNothing` tells the values that ask for nothing. */
export function refused(isNothing: (value: JsonValue) => boolean = () => false): Rule {
  return (draft, name, value) => {
    draft.members.delete(name);
    if (!isNothing(value)) refuse(draft, name, `cannot be honoured: model ${JSON.stringify(draft.model.name)} has nothing like it`);
  };
}

/** Both vendors tell of videos only: one by this member, the other by what is set up per account (protocols/lumenfall.md, section 10). */
export const webhookElsewhere: Rule = (draft, name) => {
  draft.members.delete(name);
  refuse(draft, name, 'cannot be honoured here: POST /videos makes whatever any model makes, and tells it');
};

/** Another name for what models call by one of `targets`. */
export function renamed(...targets: readonly string[]): Rule {
  return (draft, name, value) => {
    const target = targets.find((known) => Object.hasOwn(draft.properties, known));
    draft.members.delete(name);
    if (target !== undefined) give(draft, target, typedFor(draft.properties[target], value));
    else refuse(draft, name, noParameter(draft));
  };
}

/** The vendor writes some numbers as texts (protocols/openai.md, section 6), where models want numbers, or the other way round. */
function typedFor(schema: JsonValue | undefined, value: JsonValue): JsonValue {
  const types = isJsonObject(schema) ? [schema.type].flat() : [];
  if (types.includes('string')) return typeof value === 'number' ? String(value) : value;
  const isNumeric = types.includes('number') || types.includes('integer');
  return isNumeric && typeof value === 'string' && /^\d{1,9}(\.\d{1,9})?$/.test(value) ? Number(value) : value;
}

/** How many: one is what every model makes. */
export const count: Rule = (draft, name, value) => {
  const target = ['n', 'num_images', 'num_outputs', 'number_of_images'].find((known) => Object.hasOwn(draft.properties, known));
  draft.members.delete(name);
  if (target !== undefined) give(draft, target, value);
  else if (Number(value) !== 1) refuse(draft, name, `must be 1: model ${JSON.stringify(draft.model.name)} makes one at a time`);
};

/** Pixels such as `1024x1536`, or a shape such as `16:9` (protocols/lumenfall.md, section 4), for models that say it in another way. */
export const size: Rule = (draft, name, value) => {
  draft.members.delete(name);
  const [, width, height] = (typeof value === 'string' && PIXELS.exec(value)) || [];
  const isShape = typeof value === 'string' && /^\d{1,2}:\d{1,2}$/.test(value);
  if (width !== undefined && height !== undefined) givePixels(draft, name, Number(width), Number(height));
  else if (!isShape) refuse(draft, name, 'must be auto, pixels such as 1024x1024, or a shape such as 16:9');
  else if (Object.hasOwn(draft.properties, 'aspect_ratio')) give(draft, 'aspect_ratio', value);
  else refuse(draft, name, `must be auto, or pixels: ${noParameter(draft)}`);
};

const PIXELS = /^(\d{1,5})x(\d{1,5})$/;

function givePixels(draft: Draft, name: string, width: number, height: number): void {
  const { properties } = draft;
  const sizes = valuesOf(properties.resolution);
  const spelled = sizes.find((known) => known.match(/\d+/g)?.join('x') === `${width}x${height}`);
  if (Object.hasOwn(properties, 'width') && Object.hasOwn(properties, 'height')) {
    give(draft, 'width', width);
    give(draft, 'height', height);
  } else if (Object.hasOwn(properties, 'image_size')) give(draft, 'image_size', { width, height });
  else if (spelled !== undefined) give(draft, 'resolution', spelled);
  else if (sizes.length > 0) refuse(draft, name, `must be one of the model's own sizes: ${sizes.join(', ')}`);
  else refuse(draft, name, noParameter(draft));
}

/** The texts that a parameter may be, where it has a list of them. */
function valuesOf(schema: JsonValue | undefined): readonly string[] {
  const values = isJsonObject(schema) && Array.isArray(schema.enum) ? schema.enum : [];
  return values.filter((value) => typeof value === 'string');
}

/** The formats that results are converted to are those of the model's own parameters. */
export const format: Rule = (draft, name, value) => moved(draft, name, value, draft.model.outputFormat?.format);
export const compression: Rule = (draft, name, value) => moved(draft, name, value, draft.model.outputFormat?.quality);

function moved(draft: Draft, name: string, value: JsonValue, target: string | undefined): void {
  draft.members.delete(name);
  if (target === undefined) refuse(draft, name, noParameter(draft));
  else give(draft, target, value);
}

/** The model's own word wins over one that was made out of OpenAI's. */
export function give(draft: Draft, name: string, value: JsonValue): void {
  if (!draft.members.has(name)) draft.members.set(name, toJsonText(value));
}

export function refuse({ problems }: Draft, name: string, message: string): void {
  problems.push({ pointer: `/${name}`, message });
}

function noParameter({ model, properties }: Draft): string {
  return `is not a parameter of model ${JSON.stringify(model.name)}, whose own are ${Object.keys(properties).join(', ')}`;
}

/** What the vendor has for "as the model likes"; kept where the model knows the word itself. */
function dropAutomatic({ members, properties }: Draft): void {
  for (const name of ['size', 'quality', 'background', 'moderation']) {
    if (members.get(name) !== '"auto"') continue;
    const { [name]: schema } = properties;
    if (!isJsonObject(schema) || !JSON.stringify(schema).includes('"auto"')) members.delete(name);
  }
}

/** `jpeg` and `jpg` are the same to everybody but to a list of values. */
function spellFormat({ model, members, properties }: Draft): void {
  const name = model.outputFormat?.format;
  const schema = name === undefined ? undefined : properties[name];
  if (name === undefined || !isJsonObject(schema) || !Array.isArray(schema.enum)) return;
  const given: JsonValue = JSON.parse(members.get(name) ?? 'null');
  const other = given === 'jpeg' ? 'jpg' : given === 'jpg' ? 'jpeg' : undefined;
  if (other !== undefined && !schema.enum.includes(given) && schema.enum.includes(other)) members.set(name, toJsonText(other));
}

/** Some models write `1024*1024`. */
function spellSize({ members, properties: { size: schema } }: Draft): void {
  const given: JsonValue = JSON.parse(members.get('size') ?? 'null');
  if (typeof given !== 'string' || !PIXELS.test(given) || !isJsonObject(schema) || typeof schema.pattern !== 'string') return;
  const pattern = new RegExp(schema.pattern, 'u');
  const other = given.replace('x', '*');
  if (!pattern.test(given) && pattern.test(other)) members.set('size', toJsonText(other));
}

/** Files are addresses: of their own, as parts of forms, or in objects (protocols/openai.md, sections 4 and 6). */
function fitFiles(draft: Draft, name: string, targets: readonly string[]): void {
  const text = draft.members.get(name);
  if (text === undefined) return;
  const value: JsonValue = JSON.parse(text);
  draft.members.delete(name);
  if (value === null) return;
  const urls = listIn(value).map(addressIn);
  const target = [name, ...targets].find((known) => Object.hasOwn(draft.properties, known));
  if (!urls.every((url) => url !== undefined)) {
    refuse(draft, name, 'must be a file, or {"image_url": "https://… or a data URI"}; files cannot be named by their ids here');
  } else if (target === undefined) refuse(draft, name, noParameter(draft));
  else if (takesList(draft.properties[target])) give(draft, target, urls);
  else if (urls.length === 1) give(draft, target, urls[0] ?? null);
  else refuse(draft, name, `must be one file: model ${JSON.stringify(draft.model.name)} takes no more`);
}

/** Forms may number the entries of a list (protocols/lumenfall.md, section 9). */
function listIn(value: JsonValue): readonly JsonValue[] {
  if (Array.isArray(value)) return value;
  const isNumbered = isJsonObject(value) && !isEmpty(value) && Object.keys(value).every((name) => /^\d{1,2}$/.test(name));
  return isNumbered ? Object.values(value) : [value];
}

function addressIn(value: JsonValue): string | undefined {
  if (typeof value === 'string') return value;
  const url = isJsonObject(value) ? (value.image_url ?? value.url) : undefined;
  if (isJsonObject(url)) return addressIn(url);
  return typeof url === 'string' ? url : undefined;
}

function takesList(schema: JsonValue | undefined): boolean {
  return isJsonObject(schema) && [schema.type].flat().includes('array');
}

/** Labels for the vendor's own bookkeeping, which change nothing of the result. */
export const LABELS = { user: own, safety_identifier: own, prompt_cache_key: own, service_tier: own } as const satisfies Record<
  string,
  Rule
>;

export function isEmpty(value: JsonValue): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
