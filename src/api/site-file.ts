/** Site files: what a site should be, as text. Reading, comparing with what is, and writing what is. */
export { parseSiteFile, siteFileError, guestNames, sizeMiB, type Problem } from './site-file/parse.ts';
export { jsonSchema } from './site-file/shape.ts';
export {
  isEmpty,
  planSite,
  type Change,
  type Create,
  type Difference,
  type Plan,
  type PlanKind,
  type PlanOptions,
  type Step,
} from './site-file/plan.ts';
export { exportSite } from './site-file/export.ts';
export { sizeText } from './site-file/compare.ts';
export type { SiteFile, SiteState } from './site-file/types.ts';
