/** Of a controller that leads for ever and has no colleagues. */
import type { LinksOptions } from '../../../src/controller/links.ts';

export const alone: Pick<LinksOptions, 'epoch' | 'host' | 'controllerId' | 'controllers' | 'leader'> = {
  epoch: () => 1,
  host: () => undefined,
  controllerId: '00000000-0000-4000-8000-0000000000c0',
  controllers: () => [],
  leader: () => undefined,
};
