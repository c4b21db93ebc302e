// What the list of devices was showing when its page was left; it opens there again.
class ListState {
  search = $state('');
  filter = $state<'all' | 'online' | 'offline'>('all');
  scrollTop = 0;
}

export const listState = new ListState();
