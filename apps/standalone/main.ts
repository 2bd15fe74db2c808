/** `npm start`: the whole service in one process. Logs go to stderr; stdout tells where it is and how to use it. */
import { runProcess } from '@claimcheck/core';
import { openLog } from '@claimcheck/engine';
import { environment, readStandaloneConfig } from './config.ts';
import { startStandalone } from './index.ts';

/** A body without shell specials, so that the line works as pasted in every shell. */
const FIRST_PROMPT = 'a cute panda holding a sign that says Keep Calm and Keep Building';

function welcome({ url, newKey }: { readonly url: string; readonly newKey?: string }, hasBootstrapKey: boolean): string {
  const key = newKey ?? (hasBootstrapKey ? '$BOOTSTRAP_API_KEY' : '$CLAIMCHECK_API_KEY');
  const aboutKey =
    newKey !== undefined
      ? `  API key  ${newKey}\n           Shown this once; only its hash is kept.`
      : hasBootstrapKey
        ? '  API key  the one in BOOTSTRAP_API_KEY'
        : '  API key  shown at the first start; "npm run keys -- create" makes another.';
  return `
claimcheck is ready.

  URL      ${url}
${aboutKey}

Submit a first job:

  curl -s ${url}/v2/hidream-l1-fast -H "x-api-key: ${key}" -H "content-type: application/json" -d '{"prompt":"${FIRST_PROMPT}"}'

Ctrl-C stops it; the data stays.
`;
}

await runProcess(async (signal) => {
  const variables = readStandaloneConfig();
  const log = openLog({ level: variables.LOG_LEVEL, app: 'standalone', stream: 'stderr' });
  const standalone = await startStandalone({ variables, environment, log, signal });
  console.log(welcome(standalone, variables.BOOTSTRAP_API_KEY !== undefined));
  return standalone;
});
