-- Deletes the record of an Idempotency-Key, unless it belongs to another request.
--
-- KEYS  1: the record
-- ARGV  1: the expected record
-- Returns 1 if it was deleted.

return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
