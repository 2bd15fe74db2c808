/**
 * Speaks OpenAI's wire: pictures, words, videos and models. A model whose name begins with `unknown` does not exist; those that begin with
 * `gpt-image` answer in base64, others with links unless asked. Pictures and videos may have any size but `0x0`. "Sheet" below is
 * protocols/openai.md.
 */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@claimcheck/core';
import { answerBytes, answerFirst, answerHalf, answerServed, type Desk, type ErrorStyle, keep, PNG, simulate } from './_desk.ts';
import { completionOf, piecesOf } from './_openai-chat.ts';
import { type Fields, fieldsOf, isFields } from './_openai-form.ts';
import { answerJson, type Handler, type SimulatedRequest, type Simulator } from './simulator.ts';

const KEY = 'sk-0123456789abcdef';
/** The head of a real MP4 file: enough to be told by. */
const MP4 = Buffer.from('0000001866747970' + '6d703432' + '00000000' + '6d703432' + '69736f6d', 'hex');
const PICTURES_MAX = 10;

interface Video {
  readonly id: string;
  readonly fields: Fields;
  readonly createdAt: number;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** Sheet, section 8. */
const STYLE: ErrorStyle = {
  body: (status, message) =>
    errorBody(message, status === 429 ? 'requests' : 'server_error', status === 429 ? 'rate_limit_exceeded' : null),
  rateHeaders: () => ({ 'retry-after': '1' }),
};
const REFUSED = 'Your request was rejected by the safety system.';

const openai: Simulator = {
  name: 'openai',
  environment: (url) => ({ OPENAI_API_KEY: KEY, OPENAI_BASE_URL: `${url}/v1` }),
  start: (options) => simulate(options, '/v1', openApi),
};
export default openai;

function openApi(desk: Desk): Handler {
  const { faults, runMs } = desk;
  const videos = new Map<string, Video>();

  return async (request, response) => {
    const { method } = request;
    const [path = ''] = request.path.split('?', 1);
    if (await answerFirst(desk, request, response, { style: STYLE, refuseKey })) return;
    if (method === 'POST' && path === '/v1/images/generations') return makePictures(request, response);
    if (method === 'POST' && path === '/v1/chat/completions') return chat(request, response);
    if (method === 'POST' && path === '/v1/videos') return makeVideo(request, response);
    if (method === 'GET' && path === '/v1/models') return answerServed(desk, response, 200, { object: 'list', data: MODELS.map(modelOf) });
    // A slash in an id is sent encoded (sheet, section 5).
    const [, model] = /^\/v1\/models\/([^/]+)$/.exec(path) ?? [];
    if (method === 'GET' && model) return answerServed(desk, response, 200, modelOf(decodeURIComponent(model)));
    if (method === 'GET' && path === '/v1/videos') return listVideos(response);
    const [, id = '', isContent] = /^\/v1\/videos\/([\w-]+)(\/content)?$/.exec(path) ?? [];
    const video = videos.get(id);
    if (!video) return answerJson(response, 404, errorBody(`Not found: ${path}`, 'invalid_request_error', null));
    if (method === 'DELETE' && !isContent) {
      videos.delete(id);
      return answerServed(desk, response, 200, { id, object: 'video.deleted', deleted: true });
    }
    if (method === 'GET' && isContent) return answerContent(video, request, response);
    if (method === 'GET') return answerServed(desk, response, 200, videoOf(video));
    answerJson(response, 405, errorBody('Method not allowed.', 'invalid_request_error', null));
  };

  /** Holds the connection for as long as a run takes. */
  async function makePictures(request: SimulatedRequest, response: ServerResponse): Promise<void> {
    const fields = await checked(request, response);
    if (!fields) return;
    desk.countRun();
    await systemClock.sleep(runMs, desk.closed);
    const model = String(fields.model);
    const isGpt = model.startsWith('gpt-image');
    if (faults.take('refuse')) {
      return answerJson(
        response,
        400,
        errorBody(REFUSED, 'image_generation_user_error', isGpt ? 'moderation_blocked' : 'content_policy_violation'),
      );
    }
    if (faults.take('fail')) return answerFailure(response);
    const picture = () =>
      isGpt || fields.response_format === 'b64_json'
        ? { b64_json: PNG.toString('base64') }
        : { url: `${desk.url}/files/${newId('img')}.png` };
    const wanted = typeof fields.n === 'number' ? Math.min(PICTURES_MAX, Math.max(1, fields.n)) : 1;
    const created = Math.floor(systemClock.now() / 1000);
    answerServed(desk, response, 200, {
      created,
      data: Array.from({ length: wanted }, picture),
      ...(isGpt && {
        background: 'opaque',
        output_format: 'png',
        quality: 'low',
        size: fields.size ?? '1024x1024',
        usage: { input_tokens: 9, input_tokens_details: { text_tokens: 9, image_tokens: 0 }, output_tokens: 272, total_tokens: 281 },
      }),
    });
  }

  async function chat({ body }: SimulatedRequest, response: ServerResponse): Promise<void> {
    const fields = isFields(body) ? body : {};
    const model = String(fields.model);
    const completion = completionOf(fields, newId('chatcmpl'), Math.floor(systemClock.now() / 1000), faults.take('refuse'));
    if (!completion) return answerJson(response, 400, errorBody("Missing required parameter: 'messages'.", 'invalid_request_error', null));
    if (model.startsWith('unknown')) {
      return answerJson(response, 404, errorBody(`The model '${model}' does not exist.`, 'invalid_request_error', 'model_not_found'));
    }
    desk.countRun();
    const isFailing = faults.take('fail');
    if (fields.stream === true && !isFailing) return writePieces(response, piecesOf(completion));
    await systemClock.sleep(runMs, desk.closed);
    if (isFailing) return answerFailure(response);
    answerServed(desk, response, 200, completion);
  }

  /** Over the time of a run. Half of them when that is due. */
  async function writePieces(response: ServerResponse, pieces: readonly string[]): Promise<void> {
    const isTruncated = faults.take('truncated');
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    for (const [index, piece] of pieces.entries()) {
      if (isTruncated && index >= pieces.length / 2) return void response.destroy();
      await systemClock.sleep(runMs / pieces.length, desk.closed);
      response.write(`data: ${piece}\n\n`);
    }
    response.end();
  }

  async function makeVideo(request: SimulatedRequest, response: ServerResponse): Promise<void> {
    const fields = await checked(request, response);
    if (!fields) return;
    desk.countRun();
    const error = faults.take('refuse')
      ? { code: 'moderation_blocked', message: REFUSED }
      : faults.take('fail')
        ? { code: 'internal_error', message: 'The video could not be made.' }
        : null;
    const video: Video = { id: newId('video'), fields, createdAt: systemClock.now(), error };
    keep(videos, video.id, video);
    answerServed(desk, response, 200, { ...videoOf(video), status: 'queued', progress: 0, completed_at: null, error: null });
  }

  /** The fields of a submission; undefined when it was refused. */
  async function checked(request: SimulatedRequest, response: ServerResponse): Promise<Fields | undefined> {
    const fields = await fieldsOf(request);
    const refuse = (status: number, message: string, param: string, code: string) =>
      answerJson(response, status, errorBody(message, 'invalid_request_error', code, param));
    if (typeof fields?.prompt !== 'string' || fields.prompt === '') {
      refuse(400, "Missing required parameter: 'prompt'.", 'prompt', 'missing_required_parameter');
    } else if (typeof fields.model !== 'string' || fields.model.startsWith('unknown')) {
      refuse(404, `The model '${fields.model}' does not exist.`, 'model', 'model_not_found');
    } else if (fields.size === '0x0') refuse(400, "Invalid value: '0x0'.", 'size', 'invalid_value');
    else return fields;
    return undefined;
  }

  /** Sheet, section 6, "Video object". */
  function videoOf({ id, fields, createdAt, error }: Video) {
    const elapsedMs = faults.take('backwards') ? -1 : systemClock.now() - createdAt;
    const isOver = elapsedMs >= runMs;
    const status = isOver ? (error ? 'failed' : 'completed') : elapsedMs < runMs / 2 ? 'queued' : 'in_progress';
    const created = Math.floor(createdAt / 1000);
    return {
      id,
      object: 'video',
      model: fields.model,
      status,
      progress: isOver ? 100 : Math.max(0, Math.floor((100 * elapsedMs) / runMs)),
      created_at: created,
      completed_at: isOver && !error ? created : null,
      expires_at: isOver && !error ? created + 3600 : null,
      prompt: fields.prompt,
      size: fields.size ?? '720x1280',
      seconds: String(fields.seconds ?? '4'),
      remixed_from_video_id: null,
      error: isOver ? error : null,
    };
  }

  function listVideos(response: ServerResponse): void {
    const data = [...videos.values()].reverse().slice(0, 100).map(videoOf);
    answerServed(desk, response, 200, { object: 'list', data, first_id: data[0]?.id, last_id: data.at(-1)?.id, has_more: false });
  }

  function answerContent(video: Video, { path }: SimulatedRequest, response: ServerResponse) {
    if (faults.take('expired') || videoOf(video).status !== 'completed') {
      return answerJson(response, 404, errorBody('The video is not available.', 'invalid_request_error', null));
    }
    if (/[?&]variant=(thumbnail|spritesheet)/.test(path)) return answerBytes(response, PNG, 'image/png');
    if (faults.take('truncated')) answerHalf(response, 200, MP4, 'video/mp4');
    else answerBytes(response, MP4, 'video/mp4');
  }
}

const MODELS = ['gpt-image-1', 'dall-e-3', 'sora-2'];

/** Sheet, section 5. */
function modelOf(id: string) {
  return { id, object: 'model', created: 1_763_650_000, owned_by: 'simulator' };
}

/** With the vendor's word that trying again is of no use (sheet, section 8). */
function answerFailure(response: ServerResponse): void {
  answerJson(response, 500, errorBody('The model failed.', 'server_error', null), { 'x-should-retry': 'false' });
}

function refuseKey({ authorization }: SimulatedRequest['headers']): object | undefined {
  if (authorization === `Bearer ${KEY}`) return undefined;
  return errorBody('Incorrect API key provided.', 'invalid_request_error', 'invalid_api_key');
}

function errorBody(message: string, type: string, code: string | null, param: string | null = null) {
  return { error: { message, type, param, code } };
}

function newId(kind: string): string {
  return `${kind}_${randomBytes(16).toString('hex')}`;
}
