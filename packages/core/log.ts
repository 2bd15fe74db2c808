/** Structured logging as the packages see it; pino fits. Messages are constant, details are fields, inputs and keys are never logged. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
