/** What the agent keeps on disk: its last assignment and one journal per guest. */
import { parseJournal, type GuestJournal } from '../core/host/journal.ts';
import type { Assignment } from '../core/model/assignment.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Files } from '../ports.ts';

const assignmentFile = 'assignment.json';
const folderOf = (id: Uuid): string => `guests/${id}`;
const journalFile = (id: Uuid): string => `${folderOf(id)}/journal.json`;
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Writes before it believes: what is in memory was on disk first. */
export class Memory {
  readonly #files: Files;
  readonly #journals = new Map<Uuid, GuestJournal>();
  readonly #unreadable = new Set<Uuid>();
  #assignment: Assignment | undefined;

  constructor(files: Files) {
    this.#files = files;
  }

  async load(): Promise<void> {
    const text = await this.#files.read(assignmentFile);
    if (text !== undefined) this.#assignment = JSON.parse(text) as Assignment;
    for (const id of await this.#files.list('guests')) {
      if (!uuidPattern.test(id)) continue;
      const journal = await this.#files.read(journalFile(id));
      if (journal === undefined) continue;
      const parsed = parseJournal(journal);
      if (parsed) this.#journals.set(id, parsed);
      else this.#unreadable.add(id);
    }
  }

  get assignment(): Assignment | undefined {
    return this.#assignment;
  }

  get journals(): ReadonlyMap<Uuid, GuestJournal> {
    return this.#journals;
  }

  /** Guests whose journal cannot be read: nothing is done to them, for nobody knows what their disk is. */
  get unreadable(): ReadonlySet<Uuid> {
    return this.#unreadable;
  }

  async keepAssignment(assignment: Assignment): Promise<void> {
    await this.#files.write(assignmentFile, JSON.stringify(assignment));
    this.#assignment = assignment;
  }

  async save(journal: GuestJournal): Promise<GuestJournal> {
    await this.#files.write(journalFile(journal.id), JSON.stringify(journal));
    this.#journals.set(journal.id, journal);
    return journal;
  }

  async forget(id: Uuid): Promise<void> {
    await this.#files.remove(journalFile(id));
    this.#journals.delete(id);
  }
}
