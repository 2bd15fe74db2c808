/** Dispatchers that die around a send: what they had claimed is sent by another one. */
import { BOTH, type Scenario } from '../scenario.ts';

/** A claim is good for a minute, and the one who finds it expired looks every five seconds. */
const SENT_AGAIN_SECONDS = 70;

export const dispatcherScenarios: readonly Scenario[] = [
  {
    name: 'dispatcher-before-send',
    summary: 'kill -9 of a dispatcher that has claimed deliveries, before the receiver has got them',
    queues: BOTH,
    deadlineSeconds: 240,
    run: (arena) =>
      arena.rounds(12, async () => {
        const [dispatcher] = arena.fleet.live('dispatcher');
        await arena.proxies.receiver.set('half-open');
        const swallowed = arena.proxies.receiver.swallowed();
        await arena.submit(arena.newTag(), { durationMs: 200 });
        await arena.wait(swallowed);
        if (dispatcher) await arena.fleet.end(dispatcher, 'SIGKILL');
        arena.count();
        await arena.proxies.receiver.set('forward');
        const claimed = await arena.observer.rows<{ job_id: string }>(
          `select job_id from deliveries where state = 'PENDING' and claim > send_count and next_send_at > now() + interval '50 seconds'`,
        );
        const unheard = claimed.find(({ job_id }) => !arena.receiver.received.has(job_id));
        if (unheard) void arena.expectRecovery(SENT_AGAIN_SECONDS, arena.receiver.hasHeardOf(unheard.job_id));
        await arena.replace('dispatcher');
      }),
  },
  {
    name: 'dispatcher-after-send',
    summary: 'kill -9 of a dispatcher whose message has arrived, before it has recorded that',
    queues: BOTH,
    deadlineSeconds: 240,
    run: (arena) =>
      arena.rounds(12, async () => {
        const [dispatcher] = arena.fleet.live('dispatcher');
        const tag = arena.newTag();
        const { id } = await arena.submit(tag);
        const caught = arena.receiver.catchNext(id);
        arena.upstream.finish(tag);
        const { release } = await arena.wait(caught);
        if (dispatcher) await arena.fleet.end(dispatcher, 'SIGKILL');
        arena.count();
        void arena.expectRecovery(SENT_AGAIN_SECONDS, arena.receiver.hearsAgainOf(id));
        release();
        await arena.replace('dispatcher');
      }),
  },
];
