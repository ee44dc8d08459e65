-- name: find_token
-- A token by its hash.
SELECT token, hash, scopes, devices, expires_at, revoked_at FROM tokens WHERE hash = %(hash)s;

-- name: note_token_use
-- Remember when a token was last used, to the minute.
UPDATE tokens SET last_used_at = now()
WHERE token = %(token)s AND (last_used_at IS NULL OR last_used_at < now() - INTERVAL '1 minute');

-- name: create_token
-- Store a new token's hash.
INSERT INTO tokens (prefix, hash, label, scopes, devices, expires_at)
VALUES (%(prefix)s, %(hash)s, %(label)s, %(scopes)s, %(devices)s, %(expires_at)s)
RETURNING token;

-- name: audit_token
-- Write down what was done with a token.
INSERT INTO token_audit (token, action, detail) VALUES (%(token)s, %(action)s, %(detail)s);

-- name: list_tokens
-- All tokens, newest first.
SELECT token, prefix, label, scopes, devices, created_at, expires_at, revoked_at, last_used_at
FROM tokens ORDER BY token DESC;

-- name: revoke_token
-- End a token now.
UPDATE tokens SET revoked_at = now() WHERE token = %(token)s AND revoked_at IS NULL RETURNING token;

-- name: copy_token
-- A new token with the rights of an old one, for as long as that was made for; of one that was rotated, nobody knows.
INSERT INTO tokens (prefix, hash, label, scopes, devices, expires_at)
SELECT %(prefix)s, %(hash)s, label, scopes, devices, now() + (expires_at - created_at) FROM tokens
WHERE token = %(token)s AND revoked_at IS NULL
  AND NOT EXISTS (SELECT FROM token_audit WHERE token = %(token)s AND action = 'rotated')
RETURNING token;

-- name: expire_token
-- Let a token end after a while, unless it ends sooner.
UPDATE tokens SET expires_at = least(expires_at, now() + %(seconds)s * INTERVAL '1 second')
WHERE token = %(token)s
RETURNING expires_at;

-- name: token_audit
-- What was done with tokens, newest first.
SELECT a.entry, a.token, t.prefix, a.at, a.action, a.detail
FROM token_audit a JOIN tokens t USING (token)
ORDER BY a.entry DESC;
