/** What a fence agent says of itself (action `metadata`: an XML document of resource agents). */

export interface AgentMetadata {
  readonly parameters: ReadonlySet<string>;
  readonly actions: ReadonlySet<string>;
}

/** Takes names only, so no XML parser is needed for a document that no stranger wrote. */
export function parseMetadata(text: string): AgentMetadata | undefined {
  if (!/<resource-agent\s/.test(text)) return undefined;
  const names = (element: string): ReadonlySet<string> =>
    new Set(
      [...text.matchAll(new RegExp(`<${element}\\s+name="([a-zA-Z0-9_-]+)"`, 'g'))].map((match) => match[1] ?? ''),
    );
  return { parameters: names('parameter'), actions: names('action') };
}

/** Why its word proves no power off, or nothing. Agents that cut a network or storage path know no `reboot`. */
export function metadataProblem(agent: string, { actions }: AgentMetadata): string | undefined {
  const missing = ['off', 'status', 'reboot'].filter((action) => !actions.has(action));
  if (missing.length === 0) return undefined;
  return `${agent} knows no ${missing.join(' and no ')}: it does not cut the power, or cannot confirm it`;
}
