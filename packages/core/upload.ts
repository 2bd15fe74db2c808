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

export interface UploadPage {
  readonly uploads: readonly Upload[];
  /** Hand it back to get the next page; undefined on the last one. */
  readonly nextCursor?: string;
}

/** Every operation on uploads with its outcome. Those of other callers do not exist: the app answers `not_found`. */
export interface UploadOperations {
  /** Announces a file whose bytes come to {@link uploadUrl}. */
  createUpload: {
    operation: { readonly kind: 'createUpload'; readonly fileName: string; readonly contentType?: string; readonly bytes?: number };
    outcome: Upload;
  };
  /** As `createUpload` for several at once; outcomes in the order of the files. */
  createUploads: {
    operation: {
      readonly kind: 'createUploads';
      readonly files: readonly { readonly fileName: string; readonly contentType?: string; readonly bytes?: number }[];
    };
    outcome: readonly Upload[];
  };
  readUpload: { operation: { readonly kind: 'readUpload'; readonly id: string }; outcome: Upload };
  listUploads: { operation: { readonly kind: 'listUploads'; readonly limit: number; readonly cursor?: string }; outcome: UploadPage };
  /** The outcome is the upload as it was. */
  deleteUpload: { operation: { readonly kind: 'deleteUpload'; readonly id: string }; outcome: Upload };
}
