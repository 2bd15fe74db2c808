/** Files that clients hand in, to be used in the parameters of jobs. Their addresses hold 256 random bits and need no key. */

export interface Upload {
  readonly id: string;
  /** The secret part of both addresses. */
  readonly token: string;
  readonly fileName: string;
  /** As its bytes say once they came, before that as the client said. */
  readonly contentType: string;
  /** Undefined until the bytes came. */
  readonly bytes?: number;
  /** In hex, once the bytes came. */
  readonly sha256?: string;
  readonly createdAt: Date;
  /** From then on it is gone. */
  readonly expiresAt: Date;
}

/** Where the bytes are sent with PUT, without a key. `baseUrl` has no trailing slash. */
export function uploadUrl({ token }: Pick<Upload, 'token'>, baseUrl: string): string {
  return `${baseUrl}/uploads/${token}`;
}

/** Where the bytes can be had: what parameters name. */
export function uploadedFileUrl({ token, fileName }: Pick<Upload, 'token' | 'fileName'>, baseUrl: string): string {
  return `${baseUrl}/files/${token}/${encodeURIComponent(fileName)}`;
}

/** Tokens of addresses of files, wherever they stand in a text; each once. They may be those of anything, or of nothing. */
export function fileTokensIn(text: string): readonly string[] {
  return [...new Set(Array.from(text.matchAll(/\/files\/([A-Za-z0-9_-]{43})(?=\/)/g), ([, token = '']) => token))];
}

export interface UploadPage {
  readonly uploads: readonly Upload[];
  /** Hand it back to get the next page; undefined on the last one. */
  readonly nextCursor?: string;
}

type ReadUpload = { readonly kind: 'readUpload'; readonly id: string };
type AnnouncedFile = { readonly fileName: string; readonly contentType?: string; readonly bytes?: number };

/** Every operation on uploads with its outcome. Those of other callers do not exist: the app answers `not_found`. */
export interface UploadOperations {
  /**
   * Announces a file whose bytes come to {@link uploadUrl}. A file that came with the request, as part of a form, is an upload already: where a
   * route takes both, it is read.
   */
  createUpload: { operation: ({ readonly kind: 'createUpload' } & AnnouncedFile) | ReadUpload; outcome: Upload };
  /** Announces several at once; outcomes in the order of the files. */
  createUploads: { operation: { readonly kind: 'createUploads'; readonly files: readonly AnnouncedFile[] }; outcome: readonly Upload[] };
  readUpload: { operation: ReadUpload; outcome: Upload };
  listUploads: { operation: { readonly kind: 'listUploads'; readonly limit: number; readonly cursor?: string }; outcome: UploadPage };
  /** Removes the upload with its bytes, also where jobs need it. The outcome is the upload as it was. */
  deleteUpload: { operation: { readonly kind: 'deleteUpload'; readonly id: string }; outcome: Upload };
}
