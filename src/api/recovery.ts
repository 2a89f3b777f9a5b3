/** Which guests are highly available: the one rule of the core, for documents of the API. */
import { eligibility, usualLimits, usualPriority, type Eligibility } from '../core/ha/eligible.ts';
import type { Guest } from '../core/model/guest.ts';
import type { GuestView } from './schemas.ts';

export { usualLimits, usualPriority };
export type { Eligibility };

/** Whether the guest is started elsewhere when its host is lost, or the sentence that says why not. */
export function eligibilityOf({ spec }: Pick<GuestView, 'spec'>): Eligibility {
  // The documents differ in how they write instants, of which the rule looks at none.
  return eligibility({ spec: spec as unknown as Guest['spec'] });
}
