"""The rules of a shared budget in Lua: what book.py and valve.py say inside.

Holds: the parts of the script between its reading and its verbs (script.py):
slots and entries, the pause after a refusal, the charges, and what fits when.
Does not hold: Python. Constant, so safe to share.
"""

from __future__ import annotations

from typing import Final

SHELF: Final = r"""
local function field(i, slot) return string.format('s%d:%.0f', i, slot) end
local function slot_of(stamp, i) return ceil(stamp / rates[i].width) end
local function last_instant(slot, i) return slot * rates[i].width + rates[i].interval end
local function first_live(i) return -floor((rates[i].interval - now) / rates[i].width) end

-- Calls visit(slot, units) for the slots of rate i, the oldest first, until it returns true.
local function walk(i, to, visit)
  local from = h.first[i]
  to = min(to, h.last[i])
  while from <= to do
    local names, till = {}, min(from + 49, to)
    for slot = from, till do names[#names + 1] = field(i, slot) end
    local found = redis.call('HMGET', key, unpack(names))
    for n = 1, #names do
      if found[n] and visit(from + n - 1, tonumber(found[n]), names[n]) then return end
    end
    from = till + 1
  end
end

local function add(i, slot, units)
  redis.call('HINCRBY', key, field(i, slot), units)
  if h.first[i] > h.last[i] then
    h.first[i], h.last[i] = slot, slot
  else
    h.first[i], h.last[i] = min(h.first[i], slot), max(h.last[i], slot)
  end
end

local function drop_before(i, slot)
  if h.first[i] > h.last[i] or h.first[i] >= slot then return 0 end
  local total, dropped = 0, {}
  walk(i, slot - 1, function(_, units, name)
    total = total + units
    dropped[#dropped + 1] = name
  end)
  for n = 1, #dropped, 50 do
    redis.call('HDEL', key, unpack(dropped, n, min(n + 49, #dropped)))
  end
  if slot > h.last[i] then
    h.first[i], h.last[i] = 0, -1
  else
    h.first[i] = slot
  end
  return total
end

local function entry_of(name)
  local found = redis.call('HGET', key, 'e:' .. name)
  return found and cmsgpack.unpack(found)
end
local function put(name, entry) redis.call('HSET', key, 'e:' .. name, cmsgpack.pack(entry)) end
local function drop(name) redis.call('HDEL', key, 'e:' .. name) end

local function entries()
  local all, found = redis.call('HGETALL', key), {}
  for n = 1, #all, 2 do
    if string.sub(all[n], 1, 2) == 'e:' then
      found[#found + 1] = {string.sub(all[n], 3), cmsgpack.unpack(all[n + 1])}
    end
  end
  return found
end
"""

VALVE: Final = r"""
local function paused_until() return valve.state == PAUSED and valve.at or 0 end

local function next_at()
  if valve.state == RAMP then
    if now < valve.at + RAMP_US then
      local bits, grants = 0, valve.grants
      while grants > 0 do bits, grants = bits + 1, floor(grants / 2) end
      return valve.at + RAMP_STEP_US * bits
    end
    valve.state = OPEN
  end
  return valve.state == OPEN and 0 or valve.at
end

local function begin_ramp()
  valve.state, valve.probe, valve.at, valve.grants, valve.refusals = RAMP, '', now, 0, 0
end

local function passed(ticket)
  if valve.state == PAUSED then
    valve.state, valve.probe, valve.at = PROBING, ticket, now + PROBE_GRANT_US
  elseif valve.state == PROBING then
    begin_ramp()
    valve.grants = 1
  elseif valve.state == RAMP then
    valve.grants = valve.grants + 1
  end
end

local function ended(ticket, is_sent)
  if valve.probe == '' or valve.probe ~= ticket then return end
  if is_sent then
    begin_ramp()
  else
    valve.state, valve.probe, valve.at = PAUSED, '', now
  end
end

local function pause(pause_us)
  valve.at = max(now + pause_us, paused_until())
  valve.state, valve.probe = PAUSED, ''
end

local function refused(granted_at, retry_us)
  local is_news = granted_at > valve.refused_at
  if is_news then
    valve.refusals, valve.refused_at = valve.refusals + 1, now
  end
  local wish_us = retry_us < 0 and BACKOFF_US or max(retry_us, LEAST_WISH_US)
  local doubled_us = wish_us * 2 ^ min(max(valve.refusals - 1, 0), MOST_DOUBLINGS)
  pause(max(wish_us, min(doubled_us, BACKOFF_MOST_US)))
  return is_news
end
"""

CHARGES: Final = r"""
local function guard()
  return max(terms.guard, min(terms.guard * h.widened, floor(terms.shortest / 10), WIDEST_GUARD))
end

local function stamp(i, units, at)
  local slot = slot_of(at, i)
  if slot < first_live(i) then
    used[i] = used[i] - units
  elseif units ~= 0 then
    add(i, slot, units)
  end
end

local function charge_now(i, units)
  if units > 0 then
    used[i] = used[i] + units
    stamp(i, units, now)
  end
end

local function send(entry, ago)
  entry.stamp = now - ago + guard()
  for i, rate in ipairs(rates) do
    if rate.on_arrival then stamp(i, entry.costs[i], entry.stamp) end
  end
end

local function charged(rate, estimate, actual)
  if actual < 0 or rate.is_requests then return estimate end
  return charge == 'estimate' and max(actual, estimate) or actual
end

local function move(i, entry, after, at)
  local slot = slot_of(entry.stamp, i)
  if slot >= first_live(i) then
    if entry.costs[i] ~= 0 then add(i, slot, -entry.costs[i]) end
    used[i] = used[i] + after - entry.costs[i]
    stamp(i, after, at)
  end
end

local function place_of(ticket)
  for n, one in ipairs(h.tickets) do
    if one.name == ticket then return n end
  end
  return #h.tickets + 1
end

local function leave_queue(ticket)
  local n = place_of(ticket)
  if n <= #h.tickets then table.remove(h.tickets, n) end
end

local function lapse()
  h.next_lease = NEVER
  local late = guard()
  for _, pair in ipairs(entries()) do
    local name, entry = pair[1], pair[2]
    if entry.lease > now then
      h.next_lease = min(h.next_lease, entry.lease)
    else
      for i, rate in ipairs(rates) do
        if entry.stamp < 0 or not rate.on_arrival then
          stamp(i, entry.costs[i], entry.lease + late)
        end
      end
      drop(name)
    end
  end
end
"""

FITTING: Final = r"""
local function frees(i, over)
  local at = NEVER
  walk(i, NEVER, function(slot, units)
    over = over - units
    if over <= 0 then
      at = last_instant(slot, i) + 1
      return true
    end
  end)
  return at
end

local function due(costs)
  local at = 0
  for i, rate in ipairs(rates) do
    local over = used[i] + costs[i] - rate.limit
    if costs[i] > 0 and over > 0 then at = max(at, frees(i, over)) end
  end
  return at
end

local function freed(i, at)
  local total = 0
  if at < NEVER then
    walk(i, NEVER, function(slot, units)
      if last_instant(slot, i) >= at then return true end
      total = total + units
    end)
  end
  return total
end

local function passes(first, costs)
  local at = due(first)
  if at == 0 or valve.state ~= OPEN then return false end
  for i, rate in ipairs(rates) do
    local room = rate.limit - used[i] - first[i]
    if costs[i] > 0 and costs[i] > room + freed(i, at) then return false end
  end
  return true
end

local function soonest_of(i, cost)
  local rate, kept, order, over = rates[i], {}, {}, 0
  walk(i, NEVER, function(slot, units)
    kept[slot] = units
    order[#order + 1] = slot
  end)
  if charge == 'adjust' and not rate.is_requests then
    for _, pair in ipairs(entries()) do
      local entry = pair[2]
      local slot = slot_of(entry.stamp, i)
      if entry.stamp >= 0 and kept[slot] then kept[slot] = kept[slot] - entry.costs[i] end
    end
  end
  for _, slot in ipairs(order) do over = over + kept[slot] end
  over = over + cost - rate.limit
  local at = 0
  for _, slot in ipairs(order) do
    if over <= 0 then break end
    over = over - kept[slot]
    at = min(slot * rate.width, now) + rate.interval + 1
  end
  return at
end

local function soonest(costs)
  local at = paused_until()
  for i, rate in ipairs(rates) do
    if costs[i] > 0 and used[i] + costs[i] > rate.limit then
      at = max(at, soonest_of(i, costs[i]))
    end
  end
  return at
end

local function with_all(ahead, costs)
  local sums = {}
  for i, rate in ipairs(rates) do
    local sum = costs[i]
    for _, one in ipairs(ahead) do sum = sum + one.costs[i] end
    sums[i] = costs[i] > 0 and min(rate.limit, sum) or 0
  end
  return sums
end
"""
