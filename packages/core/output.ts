/** The one normal form of a result, whatever the upstream answered. Dialects write it in their vendor's shape. */
import type { JsonValue } from './json.ts';

/** Where a medium is: a file in our own asset store (by its token), or an address elsewhere. */
export type MediaLocation = { readonly asset: string } | { readonly url: string };

export interface Media {
  readonly location: MediaLocation;
  /** MIME type, without parameters. */
  readonly contentType: string;
  readonly fileName: string;
  /** Size of the file in bytes, when known. */
  readonly bytes?: number;
  /** Pixels. */
  readonly width?: number;
  readonly height?: number;
}

export interface Output {
  readonly media: readonly Media[];
  readonly text?: string;
  readonly json?: JsonValue;
  /** The seed that was used, so that a random one can be repeated. */
  readonly seed?: number;
  /** One flag per medium. */
  readonly nsfw?: readonly boolean[];
  /** Seconds by the provider's own names, such as `inference`. */
  readonly timings?: Readonly<Record<string, number>>;
  readonly usage?: Usage;
}

/** What a run used up, as the provider tells: what prices are for. */
export interface Usage {
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  /** Seconds that are charged for: of computing, or of the video or sound that was made. */
  readonly seconds?: number;
  /** What the provider says it charged, in US dollars. */
  readonly usd?: number;
}

/** The public address of a medium. `baseUrl` has no trailing slash. */
export function mediaUrl(media: Media, baseUrl: string): string {
  return 'url' in media.location ? media.location.url : `${baseUrl}/files/${media.location.asset}/${encodeURIComponent(media.fileName)}`;
}
