-- KEYS: the record, the count of bytes. ARGV: the revision that must be there ('' for none), the new one ('' to forget),
-- the new record, what else to do, names that must be free or the job's own, the job's id, the channel, what to tell there,
-- by how many bytes the store grows, how many it may have then ('' for any), and who makes the record; then small bodies, each a key and a
-- value. What is sent twice is made once: a new record is known by who has made it, whatever has become of it since.
local there = redis.call('HGET', KEYS[1], 'rev')
if there and there == ARGV[2] then return 'made' end
if not there and ARGV[2] == '' then return 'made' end
if there and ARGV[1] == '' and redis.call('HGET', KEYS[1], 'maker') == ARGV[11] then return 'made' end
if (there or '') ~= ARGV[1] then return 'stale' end
for _, name in ipairs(cjson.decode(ARGV[5])) do
    local owner = redis.call('GET', name)
    if owner and owner ~= ARGV[6] then return owner end
end
local grows = tonumber(ARGV[9])
if ARGV[10] ~= '' and grows > 0 and tonumber(redis.call('GET', KEYS[2]) or '0') + grows > tonumber(ARGV[10]) then
    return 'full'
end
if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('HSET', KEYS[1], 'rev', ARGV[2], 'record', ARGV[3])
    if ARGV[1] == '' then redis.call('HSET', KEYS[1], 'maker', ARGV[11]) end
end
for at = 12, #ARGV, 2 do
    redis.call('SET', ARGV[at], ARGV[at + 1])
end
for _, effect in ipairs(cjson.decode(ARGV[4])) do
    redis.call(unpack(effect))
end
redis.call('INCRBY', KEYS[2], ARGV[9])
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 'made'
