/**
 * How a model is run at an upstream that has no adapter of its own: which requests are made, and how their answers are read. It is
 * written by an operator, so it is checked strictly, once, and every problem is told with its place.
 *
 * Texts of paths and headers may hold `{…}`: `{handle}` (or a member of it, as in `{handle.id}`), `{model}`, `{idempotency_key}` and
 * `{job_id}`, and in headers `{key}`, which is HTTP_KEY. In paths they are percent-encoded, so that an answer cannot lead a request elsewhere;
 * slashes of the model stay.
 *
 * Expressions are JSONata. Those of a `body` see `{parameters, model, idempotency_key, job_id, attempt, handle}`; those over an answer see
 * `{status, body, parameters, model, handle}`, where `body` is its JSON or null.
 */
import { expressionFault } from '@claimcheck/core';
import { z } from 'zod';

const expression = z
  .string()
  .min(1)
  .max(10_000)
  .superRefine((text, context) => {
    const fault = expressionFault(text);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: `is not valid JSONata: ${fault}` });
  });

const PLACEHOLDERS = /^(?:[^{}]|\{(?:handle(?:\.\w+)?|model|idempotency_key|job_id)\})*$/;
const PLACEHOLDERS_AND_KEY = /^(?:[^{}]|\{(?:handle(?:\.\w+)?|model|idempotency_key|job_id|key)\})*$/;

const path = z
  .string()
  .max(2000)
  .regex(/^\/[\x21-\x7e]*$/, 'must start with / and hold no spaces')
  .regex(PLACEHOLDERS, 'may hold {handle}, {handle.name}, {model}, {idempotency_key} and {job_id} only');

/** Made by the connection itself, or dangerous to choose. */
const HEADERS_REFUSED = /^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|expect|keep-alive|cookie|proxy-.*)$/;

const headers = z
  .record(
    z.string(),
    z
      .string()
      .max(2000)
      .regex(/^[\x20-\x7e]*$/, 'must be printable ASCII')
      .regex(PLACEHOLDERS_AND_KEY, 'may hold {key}, {handle}, {handle.name}, {model}, {idempotency_key} and {job_id} only'),
  )
  .superRefine((given, context) => {
    for (const name of Object.keys(given)) {
      const refuse = (message: string) => context.addIssue({ code: 'custom', path: [name], message });
      if (!/^[a-z0-9-]{1,100}$/.test(name)) refuse('must be a name in lower case');
      else if (HEADERS_REFUSED.test(name)) refuse('is not for routes to choose');
    }
  });

const request = z.strictObject({
  /** POST for `submit`, DELETE for `cancel`, GET for the others, unless given. */
  method: z.enum(['GET', 'POST', 'PUT', 'DELETE']).optional(),
  /** Follows HTTP_BASE_URL. */
  path,
  /** Names in lower case. Keys do not belong here, but `{key}` does. */
  headers: headers.default({}),
  /** Gives the JSON to send. `submit` sends the parameters as they are, unless given; the others send nothing. */
  body: expression.optional(),
  /** Seconds until the last byte of the answer, 1 to 290 (Node gives an answer five minutes to begin); 30 unless given. */
  timeout_seconds: z.number().min(1).max(290).default(30),
});

export const httpRoute = z
  .strictObject({
    /** Starts a run. Without `poll`, its answer is the result. */
    submit: request,
    /** Asks how a run stands. Needs `handle` and `state`. */
    poll: request.optional(),
    /** Fetches the result of a run that has succeeded; without, the answer of the last `poll` is the result. */
    result: request.optional(),
    /** Asks to stop a run; what is answered does not matter. */
    cancel: request.optional(),

    /** Over the answer to `submit`: what finds the run again, text or an object of texts and numbers. */
    handle: expression.optional(),
    /** Over the answer to `poll`: "running", "succeeded", "failed", or "refused" for its content; after anything else it is looked at again. */
    state: expression.optional(),
    /** Over the answer to `poll`: the fraction done, 0 to 1, where the upstream tells. */
    progress: expression.optional(),
    /**
     * Over the result: one or a list of files. Each is text (an http(s) link, a data URI or base64), or an object of `url` or `data`
     * with, where known, `content_type`, `file_name`, `width`, `height`, `bytes` and `nsfw`.
     */
    outputs: expression.optional(),
    /** Over the result: words. */
    text: expression.optional(),
    /** Over the result: anything else. Without `outputs`, `text` and `json`, the answer's bytes themselves are the file. */
    json: expression.optional(),
    /** Over the result: the number that repeats it. */
    seed: expression.optional(),
    /** Over the result: an object of numbers, seconds that it took, by names of the route's choice. */
    timings: expression.optional(),
    /** Over the result: an object of what it cost, with any of `input_tokens`, `output_tokens`, `seconds` (charged for) and `usd`. */
    usage: expression.optional(),
    /**
     * Over an answer with a status of 4xx (401, 402, 403 and 429 aside), and over that of a `poll` whose run has failed: a sentence for the
     * client, or an object of `message`, `code` (provider_error, content_refused or invalid_input), `retry` (true when trying again can
     * help: for a run that has failed another one, else the same request later) and `fall_over` (true when another provider may serve what
     * this one cannot). Unless it says otherwise, a `submit` that is refused with 400 or 422 is invalid_input, one with 404, 405 or 410
     * falls over, and a run is looked at again after 404, 409 and 425.
     */
    error: expression.optional(),
    /** Seconds until the first look, 0.05 to 60; later looks come up to five seconds apart, or as far as this. 1 unless given. */
    poll_seconds: z.number().min(0.05).max(60).default(1),
  })
  .superRefine((route, context) => {
    const need = (name: 'poll' | 'handle' | 'state', by: string) => {
      if (route[name] === undefined) context.addIssue({ code: 'custom', path: [name], message: `is needed by ${by}` });
    };
    if (route.poll) for (const name of ['handle', 'state'] as const) need(name, 'poll');
    for (const name of ['result', 'cancel', 'handle', 'state', 'progress'] as const) if (route[name] !== undefined) need('poll', name);
    const { path: at, headers: sent } = route.submit;
    if ([at, ...Object.values(sent)].some((text) => text.includes('{handle'))) {
      context.addIssue({ code: 'custom', path: ['submit'], message: 'cannot know the handle, which is read from its answer' });
    }
  });

export type HttpRoute = z.infer<typeof httpRoute>;
export type HttpRouteRequest = z.infer<typeof request>;
