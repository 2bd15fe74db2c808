/** Calls to URLs of strangers: where they may go, and how they are made. */
export { type AddressKind, classifyAddress } from './addresses.ts';
export { type AllowList, EMPTY_ALLOW_LIST, parseAllowList } from './allow-list.ts';
export { type Caller, type CallerOptions, type OutboundAnswer, type OutboundCall, openCaller } from './call.ts';
export { type Download, type Downloader, type DownloadRequest, openDownloader, TooLargeError } from './download.ts';
export { type Guard, openGuard, type Resolve, type UrlProblem } from './guard.ts';
export { type CallTimings, OUTBOUND_CODES, type OutboundCode, OutboundError } from './outbound-error.ts';
