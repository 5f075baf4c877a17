// Helia is written for Node 22; of what it uses Node 20, which Debian has, lacks this alone (ECMAScript 2024).

Promise.withResolvers ??= function withResolvers() {
  let resolve, reject;
  const promise = new this((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
};
