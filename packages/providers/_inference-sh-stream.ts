/**
 * What the stream of a task tells (protocols/inference-sh.md, section 6): first the task as it is, then parts of it that have changed, and
 * the whole task again at its end. Heartbeats and other events say nothing of the task.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '@claimcheck/core';

export interface TaskLines {
  /** All that is known of the task by now. */
  readonly task: JsonObject;
  /** Whether the newest line was a whole task. */
  readonly isWhole: boolean;
  read(line: JsonValue): void;
}

export function readTaskLines(): TaskLines {
  let task: JsonObject = {};
  let isWhole = false;
  return {
    get task() {
      return task;
    },
    get isWhole() {
      return isWhole;
    },
    read(line) {
      const { data = line, event, fields, type } = isJsonObject(line) ? line : {};
      if (event !== undefined || type === 'heartbeat' || !isJsonObject(data)) return;
      isWhole = fields === undefined;
      task = isWhole ? data : { ...task, ...data };
    },
  };
}
