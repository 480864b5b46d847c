// Requests. An error of the server is thrown as its lines.

export class Refused extends Error {
  constructor(status, errors) {
    super(errors.map((e) => e.line).join("\n"));
    this.status = status;
    this.errors = errors;
  }
}

async function read(response) {
  if (response.ok) return response.json();
  let errors;
  try {
    errors = (await response.json()).errors;
  } catch {
    errors = [{ line: `the server answered ${response.status}` }];
  }
  throw new Refused(response.status, errors);
}

/** What the server answers; one that does not says so in words. */
async function asked(path, how) {
  try {
    return await fetch(path, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: is mowich web still running?", { cause: error });
  }
}

export const get = async (path, signal) => read(await asked(path, { signal }));

export const post = async (path, body, signal) =>
  read(
    await asked(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    }),
  );

/** Text of a page that the server renders. */
export async function page(path, body) {
  const response = await asked(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) await read(response);
  return response.text();
}

const kept = new Map();
/** A GET whose answer does not change while the server runs. */
export function once(path) {
  if (!kept.has(path)) {
    const made = get(path);
    made.catch(() => kept.delete(path));
    kept.set(path, made);
  }
  return kept.get(path);
}
