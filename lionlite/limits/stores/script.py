"""The accounting of a shared budget in Lua, for Redis to run in one step.

Holds: `SCRIPT`, which says what book.py says, line by line; a test holds the
two together. Does not hold: its rules (script_rules.py), or the trip (redis.py). A budget is one
hash, so that it expires, is evicted or is deleted as a whole: its head in
field "h", its terms in "t", the units of slot n of rate i in "s<i>:<n>", an
open call in "e:<ticket>". Constant, so safe to share.
"""

from __future__ import annotations

from typing import Final

from lionlite.limits import gate
from lionlite.limits.stores import book, slots, valve
from lionlite.limits.stores.script_rules import CHARGES, FITTING, SHELF, VALVE

_CONSTANTS: Final = {
    "QUEUE": book.QUEUE,
    "LOOK": book.LOOK,
    "RELOOK": book.RELOOK_US,
    "LONGEST_RELOOK": book.LONGEST_RELOOK_US,
    "SOON": book.SOON_US,
    "GRACE": book.GRACE_US,
    "GONE": book.GONE_US,
    "HOLDER": book.HOLDER_US,
    "KEEP": book.KEEP_US,
    "WIDEST_GUARD": book.WIDEST_GUARD_US,
    "NEVER": slots.NEVER,
    "OPEN": valve.OPEN,
    "PAUSED": valve.PAUSED,
    "PROBING": valve.PROBING,
    "RAMP": valve.RAMP,
    "PROBE_US": valve.PROBE_US,
    "PROBE_GRANT_US": valve.PROBE_GRANT_US,
    "RAMP_US": valve.RAMP_US,
    "RAMP_STEP_US": valve.RAMP_STEP_US,
    "BACKOFF_US": valve.BACKOFF_US,
    "BACKOFF_MOST_US": valve.BACKOFF_MOST_US,
    "LEAST_WISH_US": valve.LEAST_WISH_US,
    "MOST_DOUBLINGS": gate.MOST_DOUBLINGS,
}

_HEADER: Final = "".join(f"local {name} = {value}\n" for name, value in _CONSTANTS.items())

_READING: Final = r"""
local key, text, words, place = KEYS[1], ARGV[1], {}, 0
for one in string.gmatch(ARGV[2], '%S+') do words[#words + 1] = one end
local function word()
  place = place + 1
  return words[place] == '-' and '' or words[place]
end
local function number() return tonumber(word()) end
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local verb, given_now, epoch, version = word(), word(), word(), number()

-- The server's own time: the clocks of the hosts do not matter.
local now = tonumber(given_now)
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local found = redis.call('HMGET', key, 'h', 't')
local h, terms = found[1] and cmsgpack.unpack(found[1]), found[2] and cmsgpack.unpack(found[2])
if verb == 'enter' then
  if h and h.text ~= text then return 'differs ' .. h.text end
  terms = {charge = word(), guard = number(), longest = 0, shortest = 0, rates = {}}
  for i = 1, number() do
    local rate = {limit = number(), interval = number(), width = number()}
    rate.on_arrival, rate.is_requests = number() == 1, number() == 1
    terms.longest = max(terms.longest, rate.interval)
    terms.shortest = i == 1 and rate.interval or min(terms.shortest, rate.interval)
    terms.rates[i] = rate
  end
  redis.call('HSET', key, 't', cmsgpack.pack(terms))
  if not h then
    h = {text = text, epoch = words[place + 1], version = 0, replaces = '', now = 0, granted = 0,
         widened = 1, next_lease = NEVER, keep_until = 0, used = {}, first = {}, last = {},
         valve = {state = OPEN, at = 0, grants = 0, probe = '', refusals = 0, refused_at = -1},
         tickets = {}, holders = {}}
    for i = 1, #terms.rates do h.used[i], h.first[i], h.last[i] = 0, 0, -1 end
  end
elseif not h or h.text ~= text or h.epoch ~= epoch or h.version < version then
  return 'lost'
end
h.now = max(h.now, now)
now = h.now
local used, valve, rates, charge = h.used, h.valve, terms.rates, terms.charge
local function vector()
  local units = {}
  for i = 1, #rates do units[i] = number() end
  return units
end
"""

_NOTES: Final = r"""
local function answer(status, wait, free)
  local processes = 0
  for _ in pairs(h.holders) do processes = processes + 1 end
  h.keep_until = max(h.keep_until, now + terms.longest + KEEP)
  redis.call('HSET', key, 'h', cmsgpack.pack(h))
  redis.call('PEXPIRE', key, ceil((h.keep_until - now) / 1000))
  local told = {status, h.epoch}
  for _, one in ipairs({h.version, wait or 0, free or 0, processes, unpack(used)}) do
    told[#told + 1] = string.format('%.0f', one)
  end
  return table.concat(told, ' ')
end

-- What time does.
h.version = h.version + 1
for i = 1, #rates do used[i] = used[i] - drop_before(i, first_live(i)) end
if now >= h.next_lease then lapse() end
for n = #h.tickets, 1, -1 do
  if h.tickets[n].come_by + GONE < now then table.remove(h.tickets, n) end
end
for name, at in pairs(h.holders) do
  if at + HOLDER < now then h.holders[name] = nil end
end

if verb == 'enter' then
  local fresh, known, seen, lost, owed = word(), word(), number(), vector(), vector()
  local is_lost = known ~= h.epoch or seen >= h.version
  if known ~= '' and is_lost and known ~= h.replaces then
    for i = 1, #rates do charge_now(i, lost[i] - used[i]) end
    h.epoch, h.replaces = fresh, known
  end
  for i = 1, #rates do charge_now(i, owed[i]) end
  return answer('entered')
end

if verb == 'leave' then
  local ticket = word()
  leave_queue(ticket)
  local entry = entry_of(ticket)
  if entry and entry.stamp < 0 then
    for i = 1, #rates do used[i] = used[i] - entry.costs[i] end
    drop(ticket)
    ended(ticket, false)
  end
  return answer('done')
end

if verb == 'sent' then
  local ticket, ago = word(), number()
  local entry = entry_of(ticket)
  if entry and entry.stamp < 0 then
    send(entry, ago)
    put(ticket, entry)
    if valve.probe ~= '' and valve.probe == ticket then valve.at = now + PROBE_US end
  end
  return answer('done')
end

if verb == 'settle' then
  local ticket, sent, replied, actual = word(), number(), number(), vector()
  local entry = entry_of(ticket)
  if not entry then return answer('done') end
  if entry.stamp < 0 then send(entry, max(sent, 0)) end
  local is_known = false
  for i = 1, #rates do is_known = is_known or actual[i] >= 0 end
  if is_known then replied = max(replied, 0) end
  local arrived = replied < 0 and entry.stamp or min(entry.stamp, now - replied)
  local done = is_known and now or now + guard()
  for i, rate in ipairs(rates) do
    local after = charged(rate, entry.costs[i], actual[i])
    if rate.on_arrival then
      move(i, entry, after, arrived)
    else
      used[i] = used[i] + after - entry.costs[i]
      stamp(i, after, done)
    end
  end
  drop(ticket)
  ended(ticket, true)
  return answer('done')
end

if verb == 'pause' then
  pause(number())
  return answer('done')
end

if verb == 'refuse' then
  local ticket, retry_us = word(), number()
  local entry = entry_of(ticket)
  local is_news = refused(entry and entry.granted_at or NEVER, retry_us)
  local in_debt = false
  for i, rate in ipairs(rates) do in_debt = in_debt or used[i] > rate.limit end
  if is_news and #rates > 0 and not in_debt then
    local before = guard()
    h.widened = h.widened * 2
    if guard() == before then h.widened = h.widened / 2 end
  end
  return answer('done')
end

if verb == 'stats' then
  return answer('done', max(0, paused_until() - now), guard())
end
"""

_TAKE: Final = r"""
local function grant(ticket, lease_us, costs)
  local lease = now + lease_us
  leave_queue(ticket)
  for i = 1, #rates do used[i] = used[i] + costs[i] end
  put(ticket, {stamp = -1, lease = lease, granted_at = now, costs = costs})
  h.granted = h.granted + 1
  h.next_lease = min(h.next_lease, lease)
  h.keep_until = max(h.keep_until, lease + terms.longest + KEEP)
  passed(ticket)
end

-- All other verbs are done by now.
local mode, ticket, lease_us, left, costs = number(), word(), number(), number(), vector()
if entry_of(ticket) then return answer('granted') end
local mine, ahead = place_of(ticket), {}
for n = 1, mine - 1 do
  if h.tickets[n].come_by + GRACE >= now then ahead[#ahead + 1] = h.tickets[n] end
end
local opens_at = next_at()
if mode ~= LOOK then
  h.holders[string.match(ticket, '^[^.]*')] = now
  if opens_at <= now and due(costs) == 0
      and (#ahead == 0 or passes(ahead[1].costs, costs)) then
    grant(ticket, lease_us, costs)
    return answer('granted')
  end
end
if left >= 0 then
  local at_best = soonest(costs)
  if at_best - now > left then
    leave_queue(ticket)
    return answer('late', 0, at_best - now)
  end
end
local at = max(opens_at, due(with_all(ahead, costs)))
local wait = at > now and at - now or SOON * max(1, #ahead)
wait = min(wait, RELOOK * (1 + floor(#ahead / 4)), LONGEST_RELOOK)
if mode == QUEUE then h.tickets[mine] = {name = ticket, come_by = now + wait, costs = costs} end
return answer('wait', wait, (at > now and at < NEVER) and at - now or 0)
"""

SCRIPT: Final = f"{_HEADER}{_READING}{SHELF}{VALVE}{CHARGES}{_NOTES}{FITTING}{_TAKE}"
"""One verb on the budget of KEYS[1]. ARGV: the terms in words; then the verb, the
instant, what was seen and the arguments with blanks between, "-" for what is empty;
"enter" has the terms in numbers before its arguments. One string each way:
redis-py takes microseconds for each word."""
